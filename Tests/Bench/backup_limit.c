// What a C program on the same libraries needs for the work of a backup: SHA-256 of every chunk, zstd, AES-256-CTR with Poly1305-AES, packs
// with their own SHA-256, fsync; and the way back, verified. The anchor for the engine.
//
//   backup-limit b IMAGE DIRECTORY [RANGES]   a backup; RANGES: a file with an offset and a length in every line, for an increment
//   backup-limit r DIRECTORY TARGET           the verified restore of a backup without ranges
#define _GNU_SOURCE
#include <fcntl.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

enum { CHUNK = 1 << 20, PACK = 16 << 20, LEVEL = 3, THREADS = 2, OVERHEAD = 32 };
enum { PLAIN, COMPRESSED, ZERO };

typedef struct {
    uint64_t offset;
    uint32_t size, pack, pack_offset, length;
    uint32_t kind;
    uint8_t hash[32];
} entry;

static const uint8_t cipher_key[32] = {1}, mac_key[16] = {2}, mac_r[16] = {3};
static const char *directory;
static int image, target;
static entry *entries;
static uint64_t size, *work, work_count, entry_count;
static volatile uint64_t next;
static volatile uint32_t packs;

#define CHECK(condition) do { if (!(condition)) { fprintf(stderr, "backup-limit: %s\n", #condition); exit(1); } } while (0)

typedef struct {
    EVP_CIPHER_CTX *cipher, *block;
    EVP_MAC_CTX *mac;
} sealer;

static sealer make_sealer(void) {
    sealer s = {EVP_CIPHER_CTX_new(), EVP_CIPHER_CTX_new(), EVP_MAC_CTX_new(EVP_MAC_fetch(NULL, "POLY1305", NULL))};
    EVP_EncryptInit_ex(s.block, EVP_aes_128_ecb(), NULL, mac_key, NULL);
    EVP_CIPHER_CTX_set_padding(s.block, 0);
    return s;
}

static void authenticate(sealer *s, const uint8_t *vector, const uint8_t *text, size_t count, uint8_t *tag) {
    uint8_t key[32];
    int written;
    size_t length;
    memcpy(key, mac_r, 16);
    EVP_EncryptUpdate(s->block, key + 16, &written, vector, 16);
    EVP_MAC_init(s->mac, key, 32, NULL);
    EVP_MAC_update(s->mac, text, count);
    EVP_MAC_final(s->mac, tag, &length, 16);
}

static void apply_cipher(sealer *s, const uint8_t *vector, uint8_t *to, const uint8_t *from, uint32_t count) {
    int written;
    EVP_EncryptInit_ex(s->cipher, EVP_aes_256_ctr(), NULL, cipher_key, vector);
    EVP_EncryptUpdate(s->cipher, to, &written, from, count);
}

static void store(uint8_t *pack, uint32_t count, uint32_t number) {
    char draft[4096], path[4096];
    uint8_t hash[32];
    if (count == 0) return;
    EVP_Digest(pack, count, hash, NULL, EVP_sha256(), NULL);
    snprintf(draft, sizeof draft, "%s/draft%u", directory, number);
    snprintf(path, sizeof path, "%s/pack%u", directory, number);
    int file = open(draft, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    CHECK(file >= 0);
    for (uint32_t done = 0; done < count;) {
        ssize_t written = write(file, pack + done, count - done);
        CHECK(written > 0);
        done += written;
    }
    CHECK(fsync(file) == 0 && close(file) == 0 && rename(draft, path) == 0);
}

static void *back_up(void *unused) {
    sealer s = make_sealer();
    ZSTD_CCtx *zstd = ZSTD_createCCtx();
    size_t bound = ZSTD_compressBound(CHUNK);
    uint8_t *plain = aligned_alloc(4096, CHUNK), *packed = malloc(bound), *pack = malloc(PACK + bound + OVERHEAD);
    uint32_t used = 0, number = __sync_fetch_and_add(&packs, 1);
    for (;;) {
        uint64_t index = __sync_fetch_and_add(&next, 1);
        if (index >= work_count) break;
        entry *e = &entries[work[index]];
        CHECK(pread(image, plain, e->size, e->offset) == e->size);
        if (plain[0] == 0 && memcmp(plain, plain + 1, e->size - 1) == 0) continue;
        EVP_Digest(plain, e->size, e->hash, NULL, EVP_sha256(), NULL);
        size_t count = ZSTD_compressCCtx(zstd, packed, bound, plain, e->size, LEVEL);
        e->kind = count < e->size ? COMPRESSED : PLAIN;
        const uint8_t *bytes = e->kind == COMPRESSED ? packed : plain;
        if (e->kind == PLAIN) count = e->size;
        e->pack = number;
        e->pack_offset = used;
        e->length = count + OVERHEAD;
        uint8_t *vector = pack + used;
        CHECK(getrandom(vector, 16, 0) == 16);
        apply_cipher(&s, vector, vector + 16, bytes, count);
        authenticate(&s, vector, vector + 16, count, vector + 16 + count);
        used += e->length;
        if (used >= PACK) {
            store(pack, used, number);
            used = 0;
            number = __sync_fetch_and_add(&packs, 1);
        }
    }
    store(pack, used, number);
    return unused;
}

static void *restore(void *unused) {
    sealer s = make_sealer();
    ZSTD_DCtx *zstd = ZSTD_createDCtx();
    uint8_t *sealed = malloc(2 * CHUNK), *opened = malloc(2 * CHUNK), *plain = malloc(CHUNK);
    int pack = -1;
    uint32_t number = UINT32_MAX;
    for (;;) {
        uint64_t index = __sync_fetch_and_add(&next, 1);
        if (index >= entry_count) break;
        entry *e = &entries[index];
        if (e->kind == ZERO) continue;
        if (number != e->pack) {
            char path[4096];
            if (pack >= 0) close(pack);
            snprintf(path, sizeof path, "%s/pack%u", directory, e->pack);
            pack = open(path, O_RDONLY);
            number = e->pack;
        }
        uint32_t count = e->length - OVERHEAD;
        uint8_t tag[16], hash[32];
        CHECK(pread(pack, sealed, e->length, e->pack_offset) == e->length);
        authenticate(&s, sealed, sealed + 16, count, tag);
        CHECK(memcmp(tag, sealed + 16 + count, 16) == 0);
        apply_cipher(&s, sealed, opened, sealed + 16, count);
        const uint8_t *bytes = opened;
        if (e->kind == COMPRESSED) {
            CHECK(ZSTD_decompressDCtx(zstd, plain, CHUNK, opened, count) == e->size);
            bytes = plain;
        }
        EVP_Digest(bytes, e->size, hash, NULL, EVP_sha256(), NULL);
        CHECK(memcmp(hash, e->hash, 32) == 0);
        CHECK(pwrite(target, bytes, e->size, e->offset) == e->size);
    }
    return unused;
}

static void choose(uint64_t first, uint64_t last) {
    if (work_count > 0 && work[work_count - 1] >= first) first = work[work_count - 1] + 1;
    for (uint64_t chunk = first; chunk <= last && chunk < entry_count; chunk++) work[work_count++] = chunk;
}

static void run(void *(*body)(void *)) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, body, NULL);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

int main(int count, char **words) {
    char path[4096];
    CHECK(count >= 4);
    if (words[1][0] == 'b') {
        image = open(words[2], O_RDONLY);
        directory = words[3];
        struct stat info;
        CHECK(image >= 0 && fstat(image, &info) == 0);
        mkdir(directory, 0700);
        size = info.st_size;
        entry_count = (size + CHUNK - 1) / CHUNK;
        entries = calloc(entry_count, sizeof(entry));
        work = calloc(entry_count, sizeof *work);
        for (uint64_t i = 0; i < entry_count; i++) {
            entries[i].kind = ZERO;
            entries[i].offset = i * CHUNK;
            entries[i].size = size - i * CHUNK < CHUNK ? size - i * CHUNK : CHUNK;
        }
        if (count > 4) {
            unsigned long offset, length;
            FILE *ranges = fopen(words[4], "r");
            CHECK(ranges);
            while (fscanf(ranges, "%lu %lu", &offset, &length) == 2) choose(offset / CHUNK, (offset + length - 1) / CHUNK);
        } else {
            for (off_t position = 0; (uint64_t)position < size;) {
                off_t data = lseek(image, position, SEEK_DATA);
                if (data < 0) break;
                position = lseek(image, data, SEEK_HOLE);
                choose(data / CHUNK, (position - 1) / CHUNK);
            }
        }
        run(back_up);
        snprintf(path, sizeof path, "%s/index", directory);
        FILE *index = fopen(path, "w");
        CHECK(index && fwrite(&size, sizeof size, 1, index) == 1 && fwrite(entries, sizeof(entry), entry_count, index) == entry_count);
        CHECK(fflush(index) == 0 && fsync(fileno(index)) == 0 && fclose(index) == 0);
        fsync(open(directory, O_RDONLY));
    } else {
        directory = words[2];
        snprintf(path, sizeof path, "%s/index", directory);
        FILE *index = fopen(path, "r");
        CHECK(index && fread(&size, sizeof size, 1, index) == 1);
        entry_count = (size + CHUNK - 1) / CHUNK;
        entries = calloc(entry_count, sizeof(entry));
        CHECK(fread(entries, sizeof(entry), entry_count, index) == entry_count);
        target = open(words[3], O_CREAT | O_TRUNC | O_WRONLY, 0600);
        CHECK(target >= 0 && ftruncate(target, size) == 0);
        run(restore);
        CHECK(fsync(target) == 0);
    }
    return 0;
}
