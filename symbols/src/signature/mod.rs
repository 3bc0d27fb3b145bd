//! Signature data: one file per family, each signature with where its bytes come from.
//!
//! A signature is a fact about machine code that a compiler or an assembler made from somebody's source; the
//! files name that source, its licence and the binaries in which the bytes were seen.

pub(crate) mod aead;
pub(crate) mod boringssl;
