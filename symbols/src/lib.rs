//! Finds the TLS functions of an ELF binary. No BPF, no `/proc`.
#![forbid(unsafe_code)]
