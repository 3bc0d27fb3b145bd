//! Which programs a file becomes: the interpreter of a script, the interpreter's interpreter, and the native binaries
//! that a package's launcher script starts.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::search::in_path;

const MOST_LINKS: usize = 8;
/// A native agent binary is large; helpers and addons below this are hooked when they appear.
const NATIVE_BYTES: u64 = 1 << 20;
const MOST_NATIVES: usize = 16;
const MOST_ENTRIES: usize = 4096;
const MOST_DEPTH: usize = 7;

/// The binaries that executing `file` leads to: itself or its interpreters, then what its package brings along.
pub fn programs(file: &Path, search_path: &str) -> Vec<PathBuf> {
    let mut programs = Vec::new();
    let mut script = None;
    let mut next = fs::canonicalize(file).ok();
    for _ in 0..MOST_LINKS {
        let Some(path) = next.take() else {
            break;
        };
        match interpreter(&path, search_path) {
            Some(interpreter) => {
                script.get_or_insert(path);
                next = fs::canonicalize(interpreter).ok();
            }
            None => programs.push(path),
        }
    }
    if let Some(script) = script {
        let natives = natives(&script);
        programs.extend(natives);
    }
    programs
}

/// The interpreter that a script's first line names.
fn interpreter(path: &Path, search_path: &str) -> Option<PathBuf> {
    let mut head = [0; 256];
    let read = File::open(path).ok()?.read(&mut head).ok()?;
    let line = head.get(..read)?.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line).into_owned();
    let mut words = line.split_whitespace();
    let first = Path::new(words.next()?).to_owned();
    if first.file_name() != Some(OsStr::new("env")) {
        return Some(first);
    }
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    in_path(OsStr::new(name), search_path)
}

/// Large native programs of the package that a launcher script belongs to, and of its platform packages.
fn natives(script: &Path) -> Vec<PathBuf> {
    let Some(package) = script.ancestors().skip(1).find(|dir| dir.join("package.json").is_file()) else {
        return Vec::new();
    };
    let mut places = vec![package.to_owned()];
    places.extend(platform_packages(package));
    let mut natives = Vec::new();
    for place in places {
        collect_natives(&place, &mut natives);
    }
    natives.truncate(MOST_NATIVES);
    natives
}

/// The installed ones of a package's optional dependencies: that is how native builds are shipped.
fn platform_packages(package: &Path) -> Vec<PathBuf> {
    let manifest = fs::read(package.join("package.json")).ok();
    let manifest: Option<serde_json::Value> = manifest.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let names = manifest.as_ref().and_then(|m| m.get("optionalDependencies")).and_then(|deps| deps.as_object());
    let installed = |name: &String| {
        let places = package.ancestors().map(|dir| dir.join("node_modules").join(name));
        places.filter_map(|dir| fs::canonicalize(dir).ok()).next()
    };
    names.into_iter().flatten().filter_map(|(name, _)| installed(name)).collect()
}

fn collect_natives(root: &Path, natives: &mut Vec<PathBuf>) {
    let mut left = vec![(root.to_owned(), 0)];
    let mut entries = 0;
    while let Some((dir, depth)) = left.pop() {
        let Ok(list) = fs::read_dir(&dir) else {
            continue;
        };
        for entry in list.flatten() {
            entries += 1;
            if entries > MOST_ENTRIES || natives.len() >= MOST_NATIVES {
                return;
            }
            let path = entry.path();
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() && depth < MOST_DEPTH && entry.file_name() != "node_modules" {
                left.push((path, depth + 1));
            } else if kind.is_file() && is_native(&path) && !natives.contains(&path) {
                natives.push(path);
            }
        }
    }
}

/// A large ELF program. Addons (`.node`, `.so`) are mapped by a program, and are hooked when that happens.
fn is_native(path: &Path) -> bool {
    let is_addon = path.extension().is_some_and(|extension| extension == "node" || extension == "so");
    if is_addon || !super::is_executable(path) || !path.metadata().is_ok_and(|meta| meta.len() >= NATIVE_BYTES) {
        return false;
    }
    let mut magic = [0; 4];
    File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn executable(path: &Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn a_script_becomes_its_interpreters_interpreter() {
        let dir = tempfile::tempdir().unwrap();
        let [binary, wrapper, script] = ["real", "wrapper", "script"].map(|name| dir.path().join(name));
        executable(&binary, b"\x7fELF");
        executable(&wrapper, format!("#!{}\n", binary.display()).as_bytes());
        executable(&script, b"#!/usr/bin/env -S wrapper --flag\n");
        let path = dir.path().display().to_string();
        assert_eq!(programs(&script, &path), [fs::canonicalize(binary).unwrap()]);
    }

    #[test]
    fn a_packages_launcher_leads_to_its_native_binary() {
        let dir = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(dir.path()).unwrap();
        let native = [b"\x7fELF".as_slice(), &vec![0; 2 << 20]].concat();
        let modules = root.join("lib/node_modules");
        let package = modules.join("@vendor/agent");
        executable(&root.join("bin/node"), b"\x7fELF");
        executable(&package.join("bin/agent.js"), b"#!/usr/bin/env node\n");
        let manifest = r#"{"optionalDependencies":{"@vendor/agent-linux-x64":"1","@vendor/agent-win32-x64":"1"}}"#;
        fs::write(package.join("package.json"), manifest).unwrap();
        executable(&modules.join("@vendor/agent-linux-x64/vendor/agent"), &native);
        executable(&package.join("small"), b"\x7fELF");
        symlink(package.join("bin/agent.js"), root.join("bin/agent")).unwrap();
        let found = programs(&root.join("bin/agent"), &root.join("bin").display().to_string());
        assert_eq!(found, [root.join("bin/node"), modules.join("@vendor/agent-linux-x64/vendor/agent")]);
    }

    #[test]
    fn a_loop_of_scripts_ends() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        executable(&a, format!("#!{}\n", b.display()).as_bytes());
        executable(&b, format!("#!{}\n", a.display()).as_bytes());
        assert!(programs(&a, "").is_empty());
    }
}
