/* A small libnvidia-ml.so.1: the calls that inference/telemetry/nvml.py makes, with the types and error codes of nvml.h.
 *
 * The file named by SIMULATED_NVML is read again at each call, so a test injects a fault into a running sampler:
 *
 *   count 2                 how many cards NVML lists when it starts (default 1)
 *   init 9                  nvmlInit returns this error
 *   0 temperature 91        card 0 reports this value
 *   0 power error 3         card 0 returns this error for this call (3 = NVML_ERROR_NOT_SUPPORTED)
 *   1 all error 15          card 1 returns this error for every call (15 = NVML_ERROR_GPU_IS_LOST)
 *   0 power hang            the call does not return while the file says so
 *   event 7 0 79            card 0 reports XID 79; told once, when 7 is more than the last number told
 *   library 1               the library says another version than the driver's
 *
 * A later line wins. Built with -DOLD_DRIVER it lacks the calls that came with newer drivers.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, INSUFFICIENT_SIZE = 7, TIMEOUT = 10 };
enum { MOST_CARDS = 16 };

typedef int nvmlReturn_t;
typedef struct card { unsigned index; } card;
typedef card *nvmlDevice_t;

static card cards[MOST_CARDS];
static unsigned listed;
static int started;
static unsigned long long told;

/* Look up "<who> <what> <value>" or "<who> <what> error <code>". Returns the error code; *value stays when not given. */
static int ask_once(const char *who, const char *what, unsigned long long *value) {
    char line[256], subject[64], field[64], word[64], code[64];
    const char *path = getenv("SIMULATED_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    int error = SUCCESS;
    if (!file) return SUCCESS;
    while (fgets(line, sizeof line, file)) {
        int words = sscanf(line, "%63s %63s %63s %63s", subject, field, word, code);
        if (words == 2 && !strcmp(subject, what) && !*who) *value = strtoull(field, NULL, 10);
        if (words < 3 || strcmp(subject, who)) continue;
        if (strcmp(field, what) && strcmp(field, "all")) continue;
        if (words == 4 && !strcmp(word, "error")) error = atoi(code);
        else if (!strcmp(word, "hang")) error = -1;
        else if (!strcmp(field, what)) { *value = strtoull(word, NULL, 10); error = SUCCESS; }
    }
    fclose(file);
    return error;
}

static int ask(const char *who, const char *what, unsigned long long *value) {
    int error;
    while ((error = ask_once(who, what, value)) == -1) usleep(10000);
    return error;
}

static int about(nvmlDevice_t device, const char *what, unsigned long long *value) {
    char who[16];
    if (!started) return UNINITIALIZED;
    if (!device) return INVALID_ARGUMENT;
    snprintf(who, sizeof who, "%u", device->index);
    return ask(who, what, value);
}

static int text(nvmlDevice_t device, const char *what, const char *format, char *out, unsigned size) {
    unsigned long long unused = 0;
    int error = about(device, what, &unused);
    if (error) return error;
    return snprintf(out, size, format, device->index) < (int)size ? SUCCESS : INSUFFICIENT_SIZE;
}

static int number(nvmlDevice_t device, const char *what, unsigned long long usual, unsigned *out) {
    int error = about(device, what, &usual);
    if (!error) *out = (unsigned)usual;
    return error;
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    unsigned long long error = SUCCESS, count = 1;
    (void)flags;
    ask("", "init", &error);
    if (error) return (int)error;
    ask("", "count", &count);
    listed = count < MOST_CARDS ? (unsigned)count : MOST_CARDS;
    for (unsigned i = 0; i < MOST_CARDS; i++) cards[i].index = i;
    started = 1;
    return SUCCESS;
}

nvmlReturn_t nvmlShutdown(void) {
    if (!started) return UNINITIALIZED;
    started = 0;
    return SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t error) {
    (void)error;
    return "a simulated error";
}

nvmlReturn_t nvmlSystemGetDriverVersion(char *out, unsigned size) {
    if (!started) return UNINITIALIZED;
    return snprintf(out, size, "580.95.05") < (int)size ? SUCCESS : INSUFFICIENT_SIZE;
}

nvmlReturn_t nvmlSystemGetNVMLVersion(char *out, unsigned size) {
    unsigned long long other = 0;
    if (!started) return UNINITIALIZED;
    ask("", "library", &other);
    return snprintf(out, size, other ? "13.590.44.01" : "13.580.95.05") < (int)size ? SUCCESS : INSUFFICIENT_SIZE;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    if (!started) return UNINITIALIZED;
    *count = listed;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    unsigned long long unused = 0;
    int error;
    if (!started) return UNINITIALIZED;
    if (index >= listed) return INVALID_ARGUMENT;
    error = about(&cards[index], "handle", &unused);
    if (!error) *device = &cards[index];
    return error;
}

nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *out, unsigned size) {
    return text(device, "uuid", "GPU-5eed0000-0000-4000-8000-00000000000%x", out, size);
}

nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *out, unsigned size) {
    return text(device, "serial", "165422300000%u", out, size);
}

nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *out, unsigned size) {
    unsigned long long unused = 0;
    int error = about(device, "name", &unused);
    if (error) return error;
    return snprintf(out, size, "Simulated H200") < (int)size ? SUCCESS : INSUFFICIENT_SIZE;
}

typedef struct {
    char busIdLegacy[16];
    unsigned domain, bus, device, pciDeviceId, pciSubSystemId;
    char busId[32];
} nvmlPciInfo_t;

nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *out) {
    memset(out, 0, sizeof *out);
    return text(device, "pci", "00000000:1%x:00.0", out->busId, sizeof out->busId);
}

typedef struct { unsigned long long total, free, used; } nvmlMemory_t;

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *out) {
    unsigned long long used = 12884901888ull;
    int error = about(device, "memory", &used);
    if (error) return error;
    out->total = 150754820096ull;
    out->used = used;
    out->free = out->total - used;
    return SUCCESS;
}

typedef struct { unsigned gpu, memory; } nvmlUtilization_t;

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *out) {
    out->memory = 11;
    return number(device, "utilisation", 37, &out->gpu);
}

nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned *out) {
    if (sensor != 0) return INVALID_ARGUMENT;
    return number(device, "temperature", 41, out);
}

nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device, unsigned long long *out) {
    *out = 1;
    return about(device, "throttle", out);
}

#ifndef OLD_DRIVER
typedef struct { unsigned version; int sensorType; int temperature; } nvmlTemperature_v1_t;

nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_v1_t *out) {
    if (out->version != 0x100000C || out->sensorType != 0) return INVALID_ARGUMENT;
    return number(device, "temperature", 41, (unsigned *)&out->temperature);
}

nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device, unsigned long long *out) {
    *out = 1;
    return about(device, "throttle", out);
}
#endif

nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned *out) {
    return number(device, "power", 118000, out);
}

nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned *out) {
    return number(device, "power_limit", 700000, out);
}

nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int clock, unsigned *out) {
    return clock == 2 ? number(device, "clock_memory", 3201, out) : number(device, "clock_sm", 1980, out);
}

nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, int kind, int counter, unsigned long long *out) {
    if (counter != 0 && counter != 1) return INVALID_ARGUMENT;
    *out = 0;
    if (counter == 1) return about(device, kind == 1 ? "ecc_uncorrected_total" : "ecc_corrected_total", out);
    return about(device, kind == 1 ? "ecc_uncorrected" : "ecc_corrected", out);
}

nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device, unsigned long long *out) {
    *out = 987654321;
    return about(device, "energy", out);
}

nvmlReturn_t nvmlDeviceGetRetiredPages(nvmlDevice_t device, int cause, unsigned *count, unsigned long long *pages) {
    unsigned room = *count;
    int error = number(device, cause == 1 ? "retired_double" : "retired_single", 0, count);
    if (error) return error;
    if (*count > room) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++) pages[i] = 0x1000ull * (i + 1);
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetRetiredPagesPendingStatus(nvmlDevice_t device, unsigned *out) {
    return number(device, "retirement_pending", 0, out);
}

nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected, unsigned *uncorrected, unsigned *pending,
                                       unsigned *failed) {
    int error = number(device, "remapped", 0, corrected);
    if (!error) error = number(device, "remapped_uncorrected", 0, uncorrected);
    if (!error) error = number(device, "remap_pending", 0, pending);
    if (!error) error = number(device, "remap_failed", 0, failed);
    return error;
}

/* Two links, as between a pair of cards; the errors injected are the replays of the first. */
nvmlReturn_t nvmlDeviceGetNvLinkState(nvmlDevice_t device, unsigned link, unsigned *out) {
    return link < 2 ? number(device, "nvlink", 1, out) : INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceGetNvLinkErrorCounter(nvmlDevice_t device, unsigned link, int counter, unsigned long long *out) {
    unsigned long long errors = 0;
    int error = about(device, "nvlink_errors", &errors);
    *out = link == 0 && counter == 0 ? errors : 0;
    return error;
}

nvmlReturn_t nvmlDeviceGetPcieReplayCounter(nvmlDevice_t device, unsigned *out) {
    return number(device, "pcie_replays", 0, out);
}

nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *current, unsigned *pending) {
    *pending = 0;
    return number(device, "mig", 0, current);
}

typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } nvmlProcessInfo_t;

nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t device, unsigned *count, nvmlProcessInfo_t *out) {
    unsigned room = *count;
    int error = number(device, "processes", 0, count);
    if (error) return error;
    if (*count > room) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++)
        out[i] = (nvmlProcessInfo_t){4000 + i, 1073741824ull * (i + 1), ~0u, ~0u};
    return SUCCESS;
}

typedef struct { nvmlDevice_t device; unsigned long long type, data; unsigned instance, compute; } nvmlEventData_t;

nvmlReturn_t nvmlEventSetCreate(void **set) {
    *set = &told;
    return started ? SUCCESS : UNINITIALIZED;
}

nvmlReturn_t nvmlEventSetFree(void *set) {
    return set ? SUCCESS : INVALID_ARGUMENT;
}

nvmlReturn_t nvmlDeviceRegisterEvents(nvmlDevice_t device, unsigned long long types, void *set) {
    unsigned long long unused = 0;
    return set && types == 8 ? about(device, "events", &unused) : INVALID_ARGUMENT;
}

nvmlReturn_t nvmlEventSetWait_v2(void *set, nvmlEventData_t *out, unsigned wait_ms) {
    char line[256];
    unsigned long long which, xid;
    unsigned index;
    FILE *file = fopen(getenv("SIMULATED_NVML"), "r");
    (void)wait_ms;
    if (!set || !file) return INVALID_ARGUMENT;
    while (fgets(line, sizeof line, file)) {
        if (sscanf(line, "event %llu %u %llu", &which, &index, &xid) != 3 || which <= told || index >= MOST_CARDS) continue;
        fclose(file);
        told = which;
        *out = (nvmlEventData_t){&cards[index], 8, xid, ~0u, ~0u};
        return SUCCESS;
    }
    fclose(file);
    return TIMEOUT;
}
