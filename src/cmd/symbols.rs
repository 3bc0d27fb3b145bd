//! `heron symbols FILE|PID`: which TLS functions a binary has, how each was found, where a probe would sit, and why
//! something was not found.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use heron_symbols::{Analysis, Arch, Confidence, Function, Library, ProbeSite, SiteClass, Tls};
use serde_json::{Value, json};

/// Options of `heron symbols`.
#[derive(Args)]
pub struct SymbolsArgs {
    /// A program, a library, a command on the PATH, or the id of a running process (then everything it has mapped)
    #[arg(value_name = "FILE|PID")]
    target: String,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// One file that was looked at.
struct Scanned {
    path: PathBuf,
    bytes: u64,
    took: Duration,
    analysis: Analysis,
}

/// Scans and prints; what is not found is an answer, not an error.
pub(super) fn run(args: &SymbolsArgs) -> Result<ExitCode> {
    let target = Target::of(&args.target)?;
    let scanned = match &target {
        Target::File(path) => vec![scan(path, path)?],
        Target::Process(pid) => scan_process(*pid)?,
    };
    match show(args.json, &target, &scanned) {
        // The reader of a pipe had seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS).context("writing the result"),
    }
}

fn show(json: bool, target: &Target, scanned: &[Scanned]) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if json {
        let files: Vec<Value> = scanned.iter().map(to_json).collect();
        let value = match (target, files.into_iter()) {
            (Target::File(_), mut files) => files.next().unwrap_or_default(),
            (Target::Process(pid), files) => json!({ "pid": pid, "files": files.collect::<Vec<_>>() }),
        };
        writeln!(out, "{value:#}")
    } else {
        print(&mut out, target, scanned)
    }
}

enum Target {
    File(PathBuf),
    Process(u32),
}

impl Target {
    /// A file of that name wins over a process id, a file here over a command on the PATH.
    fn of(text: &str) -> Result<Target> {
        let path = PathBuf::from(text);
        if path.is_file() {
            return Ok(Target::File(path));
        }
        if let Ok(pid) = text.parse::<u32>() {
            if Path::new("/proc").join(text).is_dir() {
                return Ok(Target::Process(pid));
            }
            bail!("there is no process {pid}");
        }
        let on_path = std::env::var_os("PATH").filter(|_| !text.contains('/')).and_then(|dirs| {
            std::env::split_paths(&dirs).map(|dir| dir.join(text)).find(|candidate| candidate.is_file())
        });
        on_path.map(Target::File).with_context(|| format!("{text}: no such file, process or command"))
    }
}

/// Maps the file and looks for TLS in it. `shown` is the path to print, which is another one for files of processes.
fn scan(path: &Path, shown: &Path) -> Result<Scanned> {
    let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    let bytes = file.metadata().with_context(|| format!("reading {}", path.display()))?.len();
    let start = Instant::now();
    let analysis = if bytes == 0 { heron_symbols::analyse(&[]) } else { analyse(&file, path)? };
    Ok(Scanned { path: shown.to_owned(), bytes, took: start.elapsed(), analysis })
}

/// Maps the file, and lets go of the pages that were read through.
#[allow(unsafe_code)]
fn analyse(file: &File, path: &Path) -> Result<Analysis> {
    // SAFETY: the mapping is read-only and private to this function. A file that is cut short meanwhile would end this
    // program with SIGBUS: the verb only reads, and holds nothing that could be lost.
    let map = unsafe { memmap2::Mmap::map(file) }.with_context(|| format!("mapping {}", path.display()))?;
    let page = 4096;
    let release = |range: Range<usize>| {
        let (start, end) = (range.start.next_multiple_of(page), range.end / page * page);
        if start < end {
            // SAFETY: the pages of a read-only file mapping are read from the file again when they are touched again;
            // failing to let go of them costs memory, nothing else.
            let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, end - start) };
        }
    };
    Ok(heron_symbols::analyse_releasing(&map, &release))
}

/// Every file that the process has mapped as code, once each.
fn scan_process(pid: u32) -> Result<Vec<Scanned>> {
    let maps = format!("/proc/{pid}/maps");
    let text = std::fs::read_to_string(&maps).with_context(|| format!("reading {maps}"))?;
    let mut seen = HashSet::new();
    let mut scanned = Vec::new();
    for mapping in text.lines().filter_map(Mapping::parse) {
        if !seen.insert((mapping.device, mapping.inode)) {
            continue;
        }
        let exact = PathBuf::from(format!("/proc/{pid}/map_files/{}", mapping.range));
        let inside = PathBuf::from(format!("/proc/{pid}/root{}", mapping.path.trim_end_matches(" (deleted)")));
        // The mapping itself is right for deleted files too, but needs more privileges than the path does.
        let found = scan(&exact, Path::new(mapping.path)).or_else(|_| scan(&inside, Path::new(mapping.path)));
        match found {
            Ok(found) => scanned.push(found),
            Err(error) => eprintln!("heron: {}: {error:#}", mapping.path),
        }
    }
    Ok(scanned)
}

/// An executable mapping of a file, out of a line of `/proc/PID/maps`.
struct Mapping<'a> {
    range: &'a str,
    device: &'a str,
    inode: &'a str,
    path: &'a str,
}

impl<'a> Mapping<'a> {
    fn parse(line: &'a str) -> Option<Mapping<'a>> {
        let mut words = line.splitn(6, ' ');
        let (range, rights, _offset) = (words.next()?, words.next()?, words.next()?);
        let (device, inode, path) = (words.next()?, words.next()?, words.next()?.trim_start());
        (rights.contains('x') && path.starts_with('/')).then_some(Mapping { range, device, inode, path })
    }
}

fn to_json(file: &Scanned) -> Value {
    let a = &file.analysis;
    let libraries: Vec<Value> = a.libraries.iter().map(library_json).collect();
    let misses: Vec<Value> =
        a.misses.iter().map(|m| json!({ "family": m.family.map(Library::name), "reason": m.reason })).collect();
    json!({
        "path": file.path.to_string_lossy(),
        "size_bytes": file.bytes,
        "scan_ms": file.took.as_secs_f64() * 1e3,
        "arch": a.arch,
        "build_id": a.build_id_hex(),
        "image": a.image,
        "libraries": libraries,
        "misses": misses,
    })
}

fn library_json(library: &Tls) -> Value {
    let functions: Vec<Value> = library
        .functions
        .iter()
        .map(|f| {
            json!({
                "role": f.role,
                "symbol": f.symbol,
                "address": f.address,
                "file_offset": f.file_offset,
                "how": f.how.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "confidence": f.confidence,
                "entry_site": f.entry_site,
                "return_site": f.return_site,
                "ret_sites": f.ret_sites,
                "hooked": library.hooked().any(|hooked| std::ptr::eq(hooked, f)),
                "layout": f.layout,
            })
        })
        .collect();
    json!({
        "library": library.library.name(),
        "version": library.version,
        "confidence": library.confidence,
        "fallback": library.fallback,
        "functions": functions,
    })
}

fn print(out: &mut impl Write, target: &Target, scanned: &[Scanned]) -> std::io::Result<()> {
    let all = matches!(target, Target::File(_));
    let mut silent = 0;
    for file in scanned {
        if all || !file.analysis.libraries.is_empty() || file.analysis.misses.iter().any(|m| m.family.is_some()) {
            print_file(out, file)?;
        } else {
            silent += 1;
        }
    }
    if silent > 0 {
        writeln!(out, "{silent} more mapped files without TLS functions")?;
    }
    Ok(())
}

fn print_file(out: &mut impl Write, file: &Scanned) -> std::io::Result<()> {
    let a = &file.analysis;
    writeln!(out, "{}", file.path.display())?;
    writeln!(out, "  {}", describe(file))?;
    for library in &a.libraries {
        print_library(out, library)?;
    }
    for miss in &a.misses {
        match miss.family {
            Some(family) => writeln!(out, "  {}: not found: {}", family.name(), miss.reason)?,
            None => writeln!(out, "  nothing to look at: {}", miss.reason)?,
        }
    }
    if a.libraries.is_empty() && a.misses.is_empty() {
        writeln!(out, "  no TLS functions, and no trace of a TLS library")?;
    }
    writeln!(out)
}

fn describe(file: &Scanned) -> String {
    let a = &file.analysis;
    let mut words = vec![match a.arch {
        Arch::X86_64 => "x86-64".to_owned(),
        Arch::Aarch64 => "aarch64".to_owned(),
        Arch::Other => "unknown architecture".to_owned(),
    }];
    words.extend(a.build_id_hex().map(|id| format!("build-id {id}")));
    if a.arch != Arch::Other {
        words.push(if a.image.stripped { "stripped" } else { "with symbols" }.to_owned());
        words.push(if a.image.dynamic { "dynamic" } else { "static" }.to_owned());
    }
    words.extend(a.image.go.as_ref().map(|go| go.version.clone().unwrap_or_else(|| "Go".to_owned())));
    let megabytes = file.bytes as f64 / 1e6;
    words.push(format!("{megabytes:.1} MB scanned in {:.1} ms", file.took.as_secs_f64() * 1e3));
    words.join(", ")
}

fn print_library(out: &mut impl Write, library: &Tls) -> std::io::Result<()> {
    let version = library.version.as_ref().map(|v| format!(" ({v})")).unwrap_or_default();
    let fallback = if library.fallback { ", only if nothing else fires" } else { "" };
    writeln!(out, "  {}{version}: {}{fallback}", library.library.name(), confidence(library.confidence))?;
    let rows: Vec<[String; 5]> = library.functions.iter().map(row).collect();
    let head = ["function", "offset", "entry probe", "return probe", "found by"].map(str::to_owned);
    let mut widths = [0_usize; 5];
    for row in rows.iter().chain([&head]) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    for row in [&head].into_iter().chain(&rows) {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "    {}", cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn row(f: &Function) -> [String; 5] {
    let returns = match f.return_site {
        Some(site) => place(f, site),
        None => format!("{} return sites", f.ret_sites.len()),
    };
    let how: Vec<String> = f.how.iter().map(ToString::to_string).collect();
    let doubt = if f.confidence == Confidence::Candidate { " (candidate)" } else { "" };
    [
        f.symbol.clone().unwrap_or_else(|| "?".to_owned()),
        format!("{:#x}", f.file_offset),
        place(f, f.entry_site),
        returns,
        how.join(" + ") + doubt,
    ]
}

fn place(f: &Function, site: ProbeSite) -> String {
    let class = match site.class {
        SiteClass::Emulated | SiteClass::Nop => "emulated",
        SiteClass::SingleStepped => "single-stepped",
    };
    format!("+{:#x} {class}", site.file_offset.wrapping_sub(f.file_offset))
}

fn confidence(confidence: Confidence) -> &'static str {
    match confidence {
        Confidence::Exact => "named by the file",
        Confidence::Agreed => "two methods agree",
        Confidence::Candidate => "candidates, to be proved by probation",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_executable_mappings_of_files_are_taken() {
        let code =
            "7f0000000000-7f0000001000 r-xp 00001000 fe:00 1234                       /usr/lib/lib ssl.so (deleted)";
        let found = Mapping::parse(code).expect("a mapping");
        assert_eq!((found.range, found.device, found.inode), ("7f0000000000-7f0000001000", "fe:00", "1234"));
        assert_eq!(found.path, "/usr/lib/lib ssl.so (deleted)");
        assert!(Mapping::parse("7f00-7f01 r--p 00000000 fe:00 1234 /usr/lib/libssl.so").is_none());
        assert!(Mapping::parse("7ffd0000-7ffd1000 r-xp 00000000 00:00 0                          [vdso]").is_none());
    }

    #[test]
    fn this_process_is_scanned_through_its_mappings() {
        let scanned = scan_process(std::process::id()).expect("own mappings are readable");
        assert!(scanned.iter().any(|s| s.analysis.arch != Arch::Other));
    }

    #[test]
    fn what_is_no_elf_file_is_an_answer() {
        let scanned = scan(Path::new("Cargo.toml"), Path::new("Cargo.toml")).expect("readable");
        assert!(scanned.analysis.libraries.is_empty());
        assert_eq!(to_json(&scanned)["misses"][0]["reason"], "not an ELF file");
    }
}
