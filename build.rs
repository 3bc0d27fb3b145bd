//! Builds what is not Rust: the BPF object and the console.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use libbpf_cargo::SkeletonBuilder;

fn main() {
    // DuckDB's shared library sits beside the target directory's profiles in a checkout, and in lib/ when installed.
    for path in ["$ORIGIN", "$ORIGIN/../duckdb", "$ORIGIN/../../duckdb", "$ORIGIN/../lib/heron"] {
        println!("cargo:rustc-link-arg=-Wl,-rpath,{path}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    build_bpf();
    build_console();
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

/// What the console is made of; its output and its packages are not.
const CONSOLE: &[&str] = &[
    "console/index.html",
    "console/package.json",
    "console/package-lock.json",
    "console/vite.config.ts",
    "console/public",
    "console/src",
];

/// Builds the console into `console/dist`, which `api::assets` embeds.
///
/// A machine without a recent Node still gets a working heron: its page then says what is missing. `HERON_CONSOLE=require` makes
/// that an error (releases), `HERON_CONSOLE=skip` leaves the console out.
fn build_console() {
    println!("cargo:rerun-if-env-changed=HERON_CONSOLE");
    CONSOLE.iter().for_each(|path| println!("cargo:rerun-if-changed={path}"));
    // Missing means tried again at each build, so that installing Node is enough.
    println!("cargo:rerun-if-changed=console/dist/index.html");
    let wish = env::var("HERON_CONSOLE").unwrap_or_default();
    let outcome = if wish == "skip" { Err("it was left out (HERON_CONSOLE=skip)".to_owned()) } else { make_console() };
    if let Err(why) = outcome {
        if wish == "require" {
            fail(&format!("the console cannot be built: {why}"));
        }
        let _ = fs::remove_file("console/dist/index.html");
        println!("cargo:warning=heron is built without its console: {why}");
        println!("cargo:rustc-env=HERON_CONSOLE_MISSING={}", why.replace('\n', " "));
    }
}

fn make_console() -> Result<(), String> {
    let mut hasher = DefaultHasher::new();
    CONSOLE
        .iter()
        .try_for_each(|path| hash_files(Path::new(path), &mut hasher))
        .map_err(|e| format!("its sources: {e}"))?;
    let (stamp, state) = (Path::new("console/dist/.built"), format!("{:016x}", hasher.finish()));
    let page = Path::new("console/dist/index.html");
    if page.exists() && fs::read_to_string(stamp).is_ok_and(|built| built == state) {
        return Ok(());
    }
    node_is_recent()?;
    let installed = modified("console/node_modules/.package-lock.json");
    if installed.is_none() || installed < modified("console/package-lock.json") {
        npm(&["ci", "--ignore-scripts", "--no-audit", "--no-fund"])?;
    }
    npm(&["run", "build"])?;
    fs::write(stamp, state).map_err(|error| format!("console/dist cannot be written: {error}"))?;
    // Cargo takes a watched file that is newer than this run as changed; the page is a result and not a source.
    let old = fs::File::options().write(true).open(page).and_then(|page| page.set_modified(SystemTime::UNIX_EPOCH));
    old.map_err(|error| format!("console/dist cannot be written: {error}"))
}

fn hash_files(path: &Path, hasher: &mut DefaultHasher) -> std::io::Result<()> {
    if !path.is_dir() {
        path.hash(hasher);
        fs::read(path)?.hash(hasher);
        return Ok(());
    }
    let mut inside: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    inside.sort();
    inside.iter().try_for_each(|path| hash_files(path, hasher))
}

fn modified(path: &str) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

/// Vite wants Node 20.19 or newer, 22.12 or newer in the 22 line.
fn node_is_recent() -> Result<(), String> {
    let wanted = "Node 20.19 or newer is needed (nodejs.org, or Debian 13's nodejs and npm packages)";
    let output =
        Command::new("node").arg("--version").output().map_err(|_| format!("{wanted}; there is no node here"))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let mut numbers = version.trim_start_matches('v').split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    match (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) {
        (20, 19..) | (22, 12..) | (23.., _) => Ok(()),
        _ => Err(format!("{wanted}; this is {version}")),
    }
}

fn npm(arguments: &[&str]) -> Result<(), String> {
    let said = arguments.join(" ");
    let output = Command::new("npm")
        .args(arguments)
        .current_dir("console")
        .output()
        .map_err(|error| format!("npm {said} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text =
        String::from_utf8_lossy(if output.stderr.is_empty() { &output.stdout } else { &output.stderr }).into_owned();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).take(4).collect();
    Err(format!("npm {said} failed: {}", lines.join(" ")))
}

fn fail(why: &str) -> ! {
    eprintln!("{why}");
    std::process::exit(1);
}
