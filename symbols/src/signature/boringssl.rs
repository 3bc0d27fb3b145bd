//! BoringSSL, linked statically and stripped.
//!
//! Provenance: compiled from BoringSSL's `ssl/ssl_lib.cc` (Apache-2.0, formerly ISC/OpenSSL) by clang. The byte
//! runs below were read in Bun 1.1.45 to 1.4.5 (npm `@oven/bun-linux-x64`, also `-musl` and `-baseline`), in Claude
//! Code 2.1.112 to 2.1.332 (npm `@anthropic-ai/claude-code-linux-x64`, also `-musl`), opencode, Kilo, and checked
//! against the symbols of PyPI `curl_cffi` 0.17.0, which carries BoringSSL with its `.symtab`. The offsets hold on aarch64
//! too (`@oven/bun-linux-aarch64` 1.1.38 to 1.4.5, `@anthropic-ai/claude-code-linux-arm64` 2.1.252 and 2.1.332).

/// The end of the path that BoringSSL's error macro loads, with its NUL.
pub(crate) const FILE: &[u8] = b"ssl/ssl_lib.cc\0";

/// `ssl->s3->rwstate = 0` followed by a call (`ERR_clear_error`): how `SSL_write`, `SSL_do_handshake`,
/// `SSL_shutdown` and the reading functions begin their work. 4 or 5 places per binary.
pub(crate) const RWSTATE_RESET: &[u8] = &[0xc7, 0x80, 0xc4, 0, 0, 0, 0, 0, 0, 0, 0xe8];

/// `mov rax, [rdi + 0x30]` before it: the SSL pointer is still in its argument register.
pub(crate) const S3_LOAD: &[u8] = &[0x48, 0x8b, 0x47, 0x30];

/// `cmp qword [rdi + 0x98], 0`: the test for QUIC with which `SSL_read` and `SSL_peek` begin.
/// 10 to 31 places per binary.
pub(crate) const QUIC_TEST: &[u8] = &[0x48, 0x83, 0xbf, 0x98, 0, 0, 0, 0];

/// Offset of `quic_method` in `ssl_st`, which both tests read.
pub(crate) const QUIC_METHOD: u64 = 0x98;

/// Offset of the pending data's length in `ssl->s3`: a read stores to it, a peek does not.
pub(crate) const PENDING_LEN: u64 = 0x88;

/// Offset of `rwstate` in `ssl->s3`, which a write resets first.
pub(crate) const RWSTATE: u32 = 0xc4;
