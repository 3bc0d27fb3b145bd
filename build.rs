//! Builds what is not Rust: the BPF object and the console.

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use libbpf_cargo::SkeletonBuilder;

fn main() {
    // DuckDB's shared library sits beside the target directory's profiles in a checkout, and in lib/ when installed.
    for path in ["$ORIGIN", "$ORIGIN/../duckdb", "$ORIGIN/../../duckdb", "$ORIGIN/../lib/heron"] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{path}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    build_bpf();
}

/// Compiles `bpf/heron.bpf.c` and writes its skeleton, `heron.skel.rs`, into the output directory.
///
/// `-mcpu` is pinned: compilers differ in their default, and what the verifier accepts differs with it. v3 (32-bit
/// arithmetic and jumps) is understood by every kernel from 5.10 on.
fn build_bpf() {
    println!("cargo:rerun-if-changed=bpf");
    println!("cargo:rerun-if-changed=vmlinux");
    println!("cargo:rerun-if-env-changed=CLANG");
    let clang = env::var_os("CLANG").unwrap_or_else(|| OsString::from("clang"));
    if let Err(error) = Command::new(&clang).arg("--version").output() {
        fail(&format!("clang is needed to compile the BPF programs (Debian: apt-get install clang): {error}"));
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("heron.skel.rs");
    let built = SkeletonBuilder::new()
        .source("bpf/heron.bpf.c")
        .clang(clang)
        .clang_args(["-mcpu=v3", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-Ivmlinux", "-Ibpf"])
        .build_and_generate(&out);
    if let Err(error) = built {
        fail(&format!("the BPF programs do not compile: {error:#}"));
    }
}

fn fail(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(1);
}
