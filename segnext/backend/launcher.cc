// Stands between Jittor and its compiler: precompiled headers for operators, no detour where there is nothing to tune,
// a count of what is compiled, and compilers that outlive a signal to the terminal's process group.
//
// Called as a compiler (g++, clang++) it passes its arguments on to COMPILER. Called as "python" it stands for
// Jittor's asm_tuner.py, which rewrites the assembly of operators marked "@begin" and compiles all others in two steps
// instead of one; those it compiles at once. Where anything goes wrong with a header, it just compiles.

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const double SHOWN_EVERY = 8;    // seconds between two lines about operators
static const double LONG_SILENCE = 60;  // seconds after which compiling has begun again
static const int MOST = 4096;           // arguments

static char folder[4096];  // where this program lies, with operators.h

static bool ends(const char* text, const char* end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

static bool starts(const char* text, const char* start) { return !strncmp(text, start, strlen(start)); }

static int run(char* const* arguments) {
    pid_t child = fork();
    if (child == 0) {
        execv(COMPILER, arguments);
        fprintf(stderr, "%s: %s\n", COMPILER, strerror(errno));
        _exit(127);
    }
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    if (child < 0) return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static bool contains(const char* path, const char* word) {
    FILE* file = fopen(path, "r");
    if (!file) return true;
    char line[8192];
    bool found = false;
    while (!found && fgets(line, sizeof line, file)) found = strstr(line, word);
    fclose(file);
    return found;
}

// Whether the argument says how code is made, as opposed to where it is found and what it is linked with.
static bool makes_code(const char* argument) {
    return !(starts(argument, "-l") || starts(argument, "-L") || starts(argument, "-Wl,") || !strcmp(argument, "-shared"));
}

// The precompiled header for these arguments, compiled now if this is the first call with such; false without one.
static bool find_header(int count, char** arguments, const char* source, const char* output, char* header, size_t size) {
    char* own[MOST + 8];
    int n = 0;
    uint64_t key = 1469598103934665603u;  // FNV-1a
    own[n++] = (char*)COMPILER;
    for (int i = 1; i < count; i++) {
        char* word = arguments[i];
        if (word == source || !strcmp(word, "-o") || word == output || !makes_code(word)) continue;
        own[n++] = word;
        if (starts(word, "-I")) continue;
        for (const char* c = word; ; c++) {
            key = (key ^ (unsigned char)*c) * 1099511628211u;
            if (!*c) break;
        }
    }
    char place[4200], text[4300], made[4300], temporary[4400], lock[4300], failed[4300];
    snprintf(place, sizeof place, "%s/%016llx", folder, (unsigned long long)key);
    snprintf(text, sizeof text, "%s/operators.h", place);
    snprintf(made, sizeof made, "%s/operators.h.gch", place);
    snprintf(lock, sizeof lock, "%s/lock", place);
    snprintf(failed, sizeof failed, "%s/failed", place);
    snprintf(header, size, "%s", text);
    if (!access(made, R_OK)) return true;
    struct stat information;
    if (!stat(failed, &information) && time(NULL) - information.st_mtime < 3600) return false;
    mkdir(place, 0777);
    int held = open(lock, O_CREAT | O_RDWR | O_CLOEXEC, 0666);
    if (held < 0) return false;
    flock(held, LOCK_EX);  // freed by the kernel if this process is killed
    bool ready = !access(made, R_OK);
    if (!ready) {
        char original[4200];
        snprintf(original, sizeof original, "%s/operators.h", folder);
        if (access(text, R_OK) && link(original, text) && symlink(original, text)) {}
        snprintf(temporary, sizeof temporary, "%s/%d.gch", place, (int)getpid());
        char language[] = "-x", kind[] = "c++-header", to[] = "-o";
        own[n++] = language, own[n++] = kind, own[n++] = text, own[n++] = to, own[n++] = temporary, own[n] = NULL;
        ready = run(own) == 0 && rename(temporary, made) == 0;
        if (!ready) {
            unlink(temporary);
            close(open(failed, O_CREAT | O_TRUNC | O_WRONLY, 0666));
        }
    }
    close(held);
    return ready;
}

// Counts one more operator in the file SEGNEXT_COMPILED and says so now and then on SEGNEXT_SCREEN.
static void count_one() {
    const char* counted = getenv("SEGNEXT_COMPILED");
    if (!counted) return;
    int file = open(counted, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) return;
    struct stat before = {};
    char shown[4300];
    snprintf(shown, sizeof shown, "%s.shown", counted);
    if (write(file, ".", 1) != 1 || fstat(file, &before)) before.st_size = 0;
    close(file);
    struct stat last;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    double silent = stat(shown, &last) ? LONG_SILENCE
                                       : now.tv_sec - last.st_mtim.tv_sec + 1e-9 * (now.tv_nsec - last.st_mtim.tv_nsec);
    if (silent < SHOWN_EVERY) return;
    close(open(shown, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0666));
    const char* screen = getenv("SEGNEXT_SCREEN");
    if (!screen || silent >= LONG_SILENCE || !before.st_size) return;
    int to = open(screen, O_WRONLY | O_APPEND | O_NOCTTY | O_CLOEXEC);
    if (to < 0) return;
    // On a terminal over the last line of a live display, which is drawn anew when the process goes on.
    dprintf(to, isatty(to) ? "\r\033[2KCompiling operators: %lld done" : "Compiling operators: %lld done\n",
            (long long)before.st_size);
    close(to);
}

int main(int count, char** arguments) {
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (length < 0 || count >= MOST) return 1;
    folder[length] = 0;
    const char* called = strrchr(arguments[0], '/') ? strrchr(arguments[0], '/') + 1 : arguments[0];
    *strrchr(folder, '/') = 0;
    if (!strcmp(called, "python")) {
        bool tuned = count < 4 || !ends(arguments[1], "asm_tuner.py") || contains(arguments[3], "@begin");
        if (tuned) {
            char fallback[] = "python3", *python = getenv("SEGNEXT_PYTHON");
            arguments[0] = python ? python : fallback;  // by which Python finds its packages
            execvp(arguments[0], arguments);
            return 127;
        }
        arguments += 2;  // python asm_tuner.py --cc_path=COMPILER SOURCE …
        count -= 2;
    }
    const char *source = NULL, *output = NULL;
    int sources = 0;
    for (int i = 1; i < count; i++) {
        if (!strcmp(arguments[i], "-o") && i + 1 < count) output = arguments[++i];
        else if (arguments[i][0] != '-' && ends(arguments[i], ".cc")) source = arguments[i], sources++;
    }
    char compiler[] = COMPILER;
    arguments[0] = compiler;
    if (sources != 1 || !output || !ends(output, "_op.so")) {
        execv(COMPILER, arguments);
        fprintf(stderr, "%s: %s\n", COMPILER, strerror(errno));
        return 127;
    }
    // The process that waits for this operator gets the signal as well, and ends in its own way when it is compiled.
    const int asked_to_stop[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1};
    for (int number : asked_to_stop) signal(number, SIG_IGN);
    char header[4400], include[] = "-include";
    char* with[MOST + 4];
    int n = 0, code = 1;
    with[n++] = compiler;
    bool headed = find_header(count, arguments, source, output, header, sizeof header);
    if (headed) {
        with[n++] = include, with[n++] = header;
        for (int i = 1; i <= count; i++) with[n++] = arguments[i];
        code = run(with);
    }
    if (code) code = run(arguments);  // the header may be damaged, by a full disk for example
    count_one();
    return code;
}
