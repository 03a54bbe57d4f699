// NVIDIA's driver, as far as it is asked what there is: one GPU, whose features environment variables change.
#include <cstdlib>
#include <cstring>

static long value(const char* name, long usual) {
    const char* text = getenv(name);
    return text ? atol(text) : usual;
}

extern "C" {
int cuInit(unsigned) { return value("FAKE_INIT", 0); }
int cuGetErrorString(int, const char** text) { return *text = "a reason", 0; }
int cuDeviceGetCount(int* count) { return *count = value("FAKE_COUNT", 1), 0; }
int cuDriverGetVersion(int* version) { return *version = value("FAKE_CUDA", 13000), 0; }
int cuDeviceGet(int* device, int) { return *device = 0; }
int cuDeviceGetName(char* name, int size, int) { return strncpy(name, "Simulated GPU", size), 0; }
int cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = 80ull << 30, 0; }
int cuDeviceGetAttribute(int* number, int which, int) {
    const long capability = value("FAKE_CAPABILITY", 90);
    *number = which == 75 ? capability / 10 : which == 76 ? capability % 10 : -1;
    return 0;
}
int cuDeviceGetUuid_v2(unsigned char* uuid, int) {
    for (int i = 0; i < 16; i++) uuid[i] = i * 17;
    return 0;
}
int nvmlInit_v2() { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetHandleByUUID(const char* uuid, void** handle) {
    *handle = nullptr;
    return strcmp(uuid, "GPU-00112233-4455-6677-8899-aabbccddeeff");
}
int nvmlDeviceGetMemoryInfo(void*, unsigned long long* memory) {
    memory[0] = 80ull << 30;
    memory[1] = value("FAKE_FREE_MIB", 70000) << 20;
    memory[2] = memory[0] - memory[1];
    return 0;
}
}
