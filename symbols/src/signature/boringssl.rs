//! BoringSSL, linked statically and stripped.
//!
//! Provenance: compiled from BoringSSL's `ssl/ssl_lib.cc` (Apache-2.0, formerly ISC/OpenSSL) by clang. The byte
//! runs below were read in Bun 1.1.45 to 1.4.5 (npm `@oven/bun-linux-x64`, also `-musl` and `-baseline`), in Claude
//! Code 2.1.112 to 2.1.332 (npm `@anthropic-ai/claude-code-linux-x64`, also `-musl`), opencode, Kilo, and checked
//! against the symbols of PyPI `curl_cffi` 0.17.0, which carries BoringSSL with its `.symtab`. The offsets hold on aarch64
//! too (`@oven/bun-linux-aarch64` 1.1.38 to 1.4.5, `@anthropic-ai/claude-code-linux-arm64` 2.1.252 and 2.1.332).

/// The end of the path that BoringSSL's error macro loads, with its NUL.
pub(crate) const FILE: &[u8] = b"ssl/ssl_lib.cc\0";

/// The end of `mov dword [s3 + 0xc4], 0` (displacement and immediate): `ssl->s3->rwstate = 0`, with which `SSL_write`,
/// `SSL_do_handshake`, `SSL_shutdown` and the reading functions begin their work.
pub(crate) const RWSTATE_RESET: &[u8] = &[0xc4, 0, 0, 0, 0, 0, 0, 0];

/// Offset of `s3` in `ssl_st`.
pub(crate) const S3: u64 = 0x30;

/// The end of `cmp qword [ssl + 0x98], 0` (displacement and immediate): the test for QUIC with which `SSL_read` and
/// `SSL_peek` begin.
pub(crate) const QUIC_TEST: &[u8] = &[0x98, 0, 0, 0, 0];

/// `SSL_R_BAD_LENGTH`, the reason code that only `SSL_write` has of the functions that take a buffer.
pub(crate) const BAD_LENGTH: u32 = 111;

/// `ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED`, which reading and writing give for QUIC.
pub(crate) const SHOULD_NOT: u32 = 66;

/// Offset of `quic_method` in `ssl_st`, which reading and writing test.
pub(crate) const QUIC_METHOD: u64 = 0x98;

/// Offset of the pending data's length in `ssl->s3`: a read stores to it, a peek does not.
pub(crate) const PENDING_LEN: u64 = 0x88;

/// Offset of `rwstate` in `ssl->s3`, which a write resets first.
pub(crate) const RWSTATE: u32 = 0xc4;
