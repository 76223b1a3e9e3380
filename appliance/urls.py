"""The console answers everything; the LAN API is a process of its own."""

from django.urls import include, path

urlpatterns = [path("", include("console.urls"))]

handler400 = "console.pages.errors.bad_request"
handler403 = "console.pages.errors.forbidden"
handler404 = "console.pages.errors.not_found"
handler500 = "console.pages.errors.server_error"
