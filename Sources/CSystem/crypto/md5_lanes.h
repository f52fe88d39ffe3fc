/* MD5 (RFC 1321) of four buffers at once. Each of its steps waits for the one before, so that one buffer leaves most of a core idle. */
#ifndef CLINKER_MD5_LANES_H
#define CLINKER_MD5_LANES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef uint32_t clinker_lanes __attribute__((vector_size(16)));

#define CLINKER_MD5_STEP(mixed, a, b, word, shift, constant)                                                           \
    a += (mixed) + (word) + constant##u;                                                                               \
    a = ((a << shift) | (a >> (32 - shift))) + b;
#define CLINKER_MD5_F(a, b, c, d, word, shift, constant) CLINKER_MD5_STEP(d ^ (b & (c ^ d)), a, b, word, shift, constant)
#define CLINKER_MD5_G(a, b, c, d, word, shift, constant) CLINKER_MD5_STEP(c ^ (d & (b ^ c)), a, b, word, shift, constant)
#define CLINKER_MD5_H(a, b, c, d, word, shift, constant) CLINKER_MD5_STEP(b ^ c ^ d, a, b, word, shift, constant)
#define CLINKER_MD5_I(a, b, c, d, word, shift, constant) CLINKER_MD5_STEP(c ^ (b | ~d), a, b, word, shift, constant)

#define CLINKER_MD5_STEPS \
    CLINKER_MD5_F(a, b, c, d, words[0], 7, 0xd76aa478) \
    CLINKER_MD5_F(d, a, b, c, words[1], 12, 0xe8c7b756) \
    CLINKER_MD5_F(c, d, a, b, words[2], 17, 0x242070db) \
    CLINKER_MD5_F(b, c, d, a, words[3], 22, 0xc1bdceee) \
    CLINKER_MD5_F(a, b, c, d, words[4], 7, 0xf57c0faf) \
    CLINKER_MD5_F(d, a, b, c, words[5], 12, 0x4787c62a) \
    CLINKER_MD5_F(c, d, a, b, words[6], 17, 0xa8304613) \
    CLINKER_MD5_F(b, c, d, a, words[7], 22, 0xfd469501) \
    CLINKER_MD5_F(a, b, c, d, words[8], 7, 0x698098d8) \
    CLINKER_MD5_F(d, a, b, c, words[9], 12, 0x8b44f7af) \
    CLINKER_MD5_F(c, d, a, b, words[10], 17, 0xffff5bb1) \
    CLINKER_MD5_F(b, c, d, a, words[11], 22, 0x895cd7be) \
    CLINKER_MD5_F(a, b, c, d, words[12], 7, 0x6b901122) \
    CLINKER_MD5_F(d, a, b, c, words[13], 12, 0xfd987193) \
    CLINKER_MD5_F(c, d, a, b, words[14], 17, 0xa679438e) \
    CLINKER_MD5_F(b, c, d, a, words[15], 22, 0x49b40821) \
    CLINKER_MD5_G(a, b, c, d, words[1], 5, 0xf61e2562) \
    CLINKER_MD5_G(d, a, b, c, words[6], 9, 0xc040b340) \
    CLINKER_MD5_G(c, d, a, b, words[11], 14, 0x265e5a51) \
    CLINKER_MD5_G(b, c, d, a, words[0], 20, 0xe9b6c7aa) \
    CLINKER_MD5_G(a, b, c, d, words[5], 5, 0xd62f105d) \
    CLINKER_MD5_G(d, a, b, c, words[10], 9, 0x02441453) \
    CLINKER_MD5_G(c, d, a, b, words[15], 14, 0xd8a1e681) \
    CLINKER_MD5_G(b, c, d, a, words[4], 20, 0xe7d3fbc8) \
    CLINKER_MD5_G(a, b, c, d, words[9], 5, 0x21e1cde6) \
    CLINKER_MD5_G(d, a, b, c, words[14], 9, 0xc33707d6) \
    CLINKER_MD5_G(c, d, a, b, words[3], 14, 0xf4d50d87) \
    CLINKER_MD5_G(b, c, d, a, words[8], 20, 0x455a14ed) \
    CLINKER_MD5_G(a, b, c, d, words[13], 5, 0xa9e3e905) \
    CLINKER_MD5_G(d, a, b, c, words[2], 9, 0xfcefa3f8) \
    CLINKER_MD5_G(c, d, a, b, words[7], 14, 0x676f02d9) \
    CLINKER_MD5_G(b, c, d, a, words[12], 20, 0x8d2a4c8a) \
    CLINKER_MD5_H(a, b, c, d, words[5], 4, 0xfffa3942) \
    CLINKER_MD5_H(d, a, b, c, words[8], 11, 0x8771f681) \
    CLINKER_MD5_H(c, d, a, b, words[11], 16, 0x6d9d6122) \
    CLINKER_MD5_H(b, c, d, a, words[14], 23, 0xfde5380c) \
    CLINKER_MD5_H(a, b, c, d, words[1], 4, 0xa4beea44) \
    CLINKER_MD5_H(d, a, b, c, words[4], 11, 0x4bdecfa9) \
    CLINKER_MD5_H(c, d, a, b, words[7], 16, 0xf6bb4b60) \
    CLINKER_MD5_H(b, c, d, a, words[10], 23, 0xbebfbc70) \
    CLINKER_MD5_H(a, b, c, d, words[13], 4, 0x289b7ec6) \
    CLINKER_MD5_H(d, a, b, c, words[0], 11, 0xeaa127fa) \
    CLINKER_MD5_H(c, d, a, b, words[3], 16, 0xd4ef3085) \
    CLINKER_MD5_H(b, c, d, a, words[6], 23, 0x04881d05) \
    CLINKER_MD5_H(a, b, c, d, words[9], 4, 0xd9d4d039) \
    CLINKER_MD5_H(d, a, b, c, words[12], 11, 0xe6db99e5) \
    CLINKER_MD5_H(c, d, a, b, words[15], 16, 0x1fa27cf8) \
    CLINKER_MD5_H(b, c, d, a, words[2], 23, 0xc4ac5665) \
    CLINKER_MD5_I(a, b, c, d, words[0], 6, 0xf4292244) \
    CLINKER_MD5_I(d, a, b, c, words[7], 10, 0x432aff97) \
    CLINKER_MD5_I(c, d, a, b, words[14], 15, 0xab9423a7) \
    CLINKER_MD5_I(b, c, d, a, words[5], 21, 0xfc93a039) \
    CLINKER_MD5_I(a, b, c, d, words[12], 6, 0x655b59c3) \
    CLINKER_MD5_I(d, a, b, c, words[3], 10, 0x8f0ccc92) \
    CLINKER_MD5_I(c, d, a, b, words[10], 15, 0xffeff47d) \
    CLINKER_MD5_I(b, c, d, a, words[1], 21, 0x85845dd1) \
    CLINKER_MD5_I(a, b, c, d, words[8], 6, 0x6fa87e4f) \
    CLINKER_MD5_I(d, a, b, c, words[15], 10, 0xfe2ce6e0) \
    CLINKER_MD5_I(c, d, a, b, words[6], 15, 0xa3014314) \
    CLINKER_MD5_I(b, c, d, a, words[13], 21, 0x4e0811a1) \
    CLINKER_MD5_I(a, b, c, d, words[4], 6, 0xf7537e82) \
    CLINKER_MD5_I(d, a, b, c, words[11], 10, 0xbd3af235) \
    CLINKER_MD5_I(c, d, a, b, words[2], 15, 0x2ad7d2bb) \
    CLINKER_MD5_I(b, c, d, a, words[9], 21, 0xeb86d391)

/* Four words of each lane, loaded as they lie there, become four words with a lane each. */
#define CLINKER_MD5_TURN(quarter)                                                                                      \
    {                                                                                                                  \
        clinker_lanes r0, r1, r2, r3;                                                                                  \
        memcpy(&r0, bytes[0] + block * 64 + quarter * 16, 16);                                                         \
        memcpy(&r1, bytes[1] + block * 64 + quarter * 16, 16);                                                         \
        memcpy(&r2, bytes[2] + block * 64 + quarter * 16, 16);                                                         \
        memcpy(&r3, bytes[3] + block * 64 + quarter * 16, 16);                                                         \
        clinker_lanes low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5);                                             \
        clinker_lanes low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);                                             \
        clinker_lanes high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);                                            \
        clinker_lanes high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);                                            \
        words[quarter * 4] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);                                        \
        words[quarter * 4 + 1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);                                    \
        words[quarter * 4 + 2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);                                  \
        words[quarter * 4 + 3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);                                  \
    }

#define CLINKER_MD5_BODY                                                                                               \
    clinker_lanes a, b, c, d, words[16];                                                                               \
    memcpy(&a, state, 16), memcpy(&b, state + 4, 16), memcpy(&c, state + 8, 16), memcpy(&d, state + 12, 16);           \
    for (size_t block = 0; block < blocks; block++) {                                                                  \
        CLINKER_MD5_TURN(0) CLINKER_MD5_TURN(1) CLINKER_MD5_TURN(2) CLINKER_MD5_TURN(3)                                \
        clinker_lanes a0 = a, b0 = b, c0 = c, d0 = d;                                                                  \
        CLINKER_MD5_STEPS                                                                                              \
        a += a0, b += b0, c += c0, d += d0;                                                                            \
    }                                                                                                                  \
    memcpy(state, &a, 16), memcpy(state + 4, &b, 16), memcpy(state + 8, &c, 16), memcpy(state + 12, &d, 16);

static void clinker_md5_four_plain(const uint8_t *const bytes[4], size_t blocks, uint32_t state[16]) { CLINKER_MD5_BODY }

#ifdef __x86_64__
/* Rotates in one instruction. */
__attribute__((target("avx512vl"))) static void clinker_md5_four_rotating(const uint8_t *const bytes[4], size_t blocks, uint32_t state[16]) {
    CLINKER_MD5_BODY
}
#endif

/* Continues four hashes by as many blocks of 64 bytes each. The state has the word A of each lane, then B, C, D. */
static inline void clinker_md5_four(const uint8_t *const bytes[4], size_t blocks, uint32_t state[16]) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512vl")) {
        clinker_md5_four_rotating(bytes, blocks, state);
        return;
    }
#endif
    clinker_md5_four_plain(bytes, blocks, state);
}

#endif
