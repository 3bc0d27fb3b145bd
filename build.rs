//! Builds what is not Rust: the BPF object and the console.

fn main() {
    // DuckDB's shared library sits beside the target directory's profiles in a checkout, and in lib/ when installed.
    for path in ["$ORIGIN", "$ORIGIN/../duckdb", "$ORIGIN/../../duckdb", "$ORIGIN/../lib/heron"] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{path}");
    }
    println!("cargo:rerun-if-changed=build.rs");
}
