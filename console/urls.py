"""The site map. Each view names its permission on the line above it; tests/console holds the whole matrix."""

from django.urls import path

from console.pages import (
    alerts,
    audit,
    changes,
    client_keys,
    clients,
    gpus,
    media,
    overview,
    playground,
    profile,
    queue,
    releases,
    sign_in,
    staff,
    status,
    tasks,
)

urlpatterns = [
    # Without sign-in
    path("sign-in", sign_in.password, name="sign-in"),
    path("sign-in/code", sign_in.code, name="sign-in-code"),
    path("sign-out", sign_in.sign_out, name="sign-out"),
    path("status", status.page, name="status"),
    # Service
    path("", overview.page, name="overview"),
    path("live", overview.live, name="overview-live"),
    path("playground", playground.page, name="playground"),
    path("playground/ask", playground.ask, name="playground-ask"),
    path("queue", queue.index, name="queue"),
    path("queue/live", queue.live, name="queue-live"),
    # Models
    path("media", media.index, name="media"),
    path("media/import", media.start, name="import-start"),
    path("media/imports/<int:import_id>", media.detail, name="import"),
    path("media/imports/<int:import_id>/live", media.live, name="import-live"),
    path("media/imports/<int:import_id>/cancel", media.cancel, name="import-cancel"),
    path("releases", releases.index, name="releases"),
    path("releases/<slug:digest>", releases.detail, name="release"),
    path("releases/<slug:digest>/propose", releases.propose, name="release-propose"),
    path("releases/<slug:digest>/roll-back", releases.roll_back, name="release-roll-back"),
    path("changes", changes.index, name="changes"),
    path("changes/<int:change_id>", changes.detail, name="change"),
    path("changes/<int:change_id>/live", changes.live, name="change-live"),
    path("changes/<int:change_id>/approve", changes.approve, name="change-approve"),
    path("changes/<int:change_id>/reject", changes.reject, name="change-reject"),
    path("changes/<int:change_id>/withdraw", changes.withdraw, name="change-withdraw"),
    path("tasks", tasks.index, name="tasks"),
    path("tasks/<slug:task>", tasks.detail, name="task"),
    # Access
    path("clients", clients.index, name="clients"),
    path("clients/new", clients.create, name="client-new"),
    path("clients/at/<slug:name>", clients.detail, name="client"),
    path("clients/at/<slug:name>/grants", clients.grants, name="client-grants"),
    path("clients/at/<slug:name>/issue", client_keys.issue, name="client-issue"),
    path("clients/at/<slug:name>/suspend", clients.suspend, name="client-suspend"),
    path("clients/at/<slug:name>/keys/<slug:prefix>/revoke", client_keys.revoke, name="client-revoke"),
    path("clients/at/<slug:name>/keys/<slug:prefix>/rotate", client_keys.rotate, name="client-rotate"),
    path("staff", staff.index, name="staff"),
    path("staff/<str:username>", staff.detail, name="person"),
    path("staff/<str:username>/deactivate", staff.deactivate, name="person-deactivate"),
    path("profile", profile.page, name="profile"),
    path("profile/theme", profile.theme, name="profile-theme"),
    # Assurance
    path("audit", audit.index, name="audit"),
    path("audit/verify", audit.verify, name="audit-verify"),
    path("audit/<int:shard>/<int:seq>", audit.detail, name="audit-record"),
    # Box
    path("gpus", gpus.index, name="gpus"),
    path("gpus/live", gpus.live, name="gpus-live"),
    path("alerts", alerts.index, name="alerts"),
    path("alerts/<int:alert_id>/acknowledge", alerts.acknowledge, name="alert-acknowledge"),
]
