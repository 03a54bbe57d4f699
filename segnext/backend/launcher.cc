// Stands between Jittor and its compiler: precompiled headers for operators, no detour where there is nothing to tune,
// a count of what is compiled, and compilers that outlive a signal to the terminal's process group.
//
// Called as a compiler (g++, clang++) it passes its arguments on to COMPILER, Jittor's utilities gathered into one
// source. Called with Jittor's asm_tuner.py, which rewrites the assembly of operators marked "@begin" and compiles all
// others in two steps instead of one, it leaves those that are marked to it and compiles the others at once. Where anything goes wrong with a header, it just compiles.

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

static const double SHOWN_EVERY = 5;    // seconds between two lines about operators
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

static uint64_t hashed(uint64_t key, const char* word) {  // FNV-1a
    for (const char* c = word; ; c++) {
        key = (key ^ (unsigned char)*c) * 1099511628211u;
        if (!*c) return key;
    }
}

static const uint64_t NO_WORDS = 1469598103934665603u;

// Jittor's start needs its utilities first: five sources that repeat each other's headers, compiled by the same command
// twice in a row. One source and once is enough.
static int build_utilities(int count, char** arguments, const char* output) {
    char noted[4400], gathered[4400], line[32] = "", known[32] = "";
    snprintf(noted, sizeof noted, "%s.command", output);
    snprintf(gathered, sizeof gathered, "%s.cc", output);
    uint64_t key = NO_WORDS;
    for (int i = 1; i < count; i++) key = hashed(key, arguments[i]);
    snprintf(line, sizeof line, "%016llx", (unsigned long long)key);
    struct stat made;
    FILE* note = fopen(noted, "r");
    bool same = note && fgets(known, sizeof known, note) && !strcmp(known, line);
    if (note) fclose(note);
    if (same && !stat(output, &made) && time(NULL) - made.st_mtime < 60) return 0;
    unlink(noted);
    char* with[MOST + 1];
    int n = 0;
    with[n++] = (char*)COMPILER, with[n++] = gathered;
    FILE* all = fopen(gathered, "w");
    for (int i = 1; i < count; i++) {
        if (arguments[i][0] == '-' || !ends(arguments[i], ".cc")) with[n++] = arguments[i];
        else if (all) fprintf(all, "#include \"%s\"\n", arguments[i]);
    }
    with[n] = NULL;
    int code = all && !fclose(all) ? run(with) : 1;
    if (code) code = run(arguments);
    note = code ? NULL : fopen(noted, "w");
    if (note) fputs(line, note), fclose(note);
    return code;
}

// Whether the argument says how code is made, as opposed to where it is found and what it is linked with.
static bool makes_code(const char* argument) {
    return !(starts(argument, "-l") || starts(argument, "-L") || starts(argument, "-Wl,") || !strcmp(argument, "-shared"));
}

// The precompiled header for these arguments, compiled now if this is the first call with such; false without one.
static bool find_header(int count, char** arguments, const char* source, const char* output, char* header, size_t size) {
    char* own[MOST + 8];
    int n = 0;
    uint64_t key = NO_WORDS;
    own[n++] = (char*)COMPILER;
    for (int i = 1; i < count; i++) {
        char* word = arguments[i];
        if (word == source || !strcmp(word, "-o") || word == output || !makes_code(word)) continue;
        own[n++] = word;
        if (!starts(word, "-I")) key = hashed(key, word);
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

// Fills `state` with how far Jittor is with the operators of the present graph, as the end of its log SEGNEXT_LOG
// says: "Compiling Operators(12/34) used: 9.1s eta: 16.5s". False if it compiles them one by one.
static bool read_state(char* state, size_t size) {
    const char* path = getenv("SEGNEXT_LOG");
    int log = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (log < 0) return false;
    char end[4096], *line = NULL;
    off_t length = lseek(log, 0, SEEK_END);
    ssize_t got = pread(log, end, sizeof end - 1, length > (off_t)sizeof end - 1 ? length - (off_t)sizeof end + 1 : 0);
    close(log);
    end[got < 0 ? 0 : got] = 0;
    for (char* next = end; (next = strstr(next, "Compiling Operators(")); next++) line = next;
    int done, all;
    double used, left;
    if (!line || strchr(line, '\n')) return false;  // of a graph that is compiled
    if (sscanf(line, "Compiling Operators(%d/%d) used: %lfs eta: %lfs", &done, &all, &used, &left) != 4) return false;
    snprintf(state, size, "%d of %d, about %.0f s left", done, all, left);
    return true;
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
    char state[200];
    if (!read_state(state, sizeof state)) snprintf(state, sizeof state, "%lld done", (long long)before.st_size);
    // On a terminal over the last line of a live display, which is drawn anew when the process goes on.
    dprintf(to, isatty(to) ? "\r\033[2KCompiling operators: %s" : "Compiling operators: %s\n", state);
    close(to);
}

int main(int count, char** arguments) {
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder - 1);
    if (length < 0 || count >= MOST) return 1;
    folder[length] = 0;
    *strrchr(folder, '/') = 0;
    if (count > 1 && ends(arguments[1], ".py")) {
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
    if (sources > 1 && output && strstr(output, "jit_utils_core")) return build_utilities(count, arguments, output);
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
