//! Which libraries a program will map, before it does: the dynamic linker's search, done ahead.
//!
//! Serves hooking early; what it misses is found in the process's maps a moment later.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::image::{Image, Images};
use crate::proc;

/// Directories that the dynamic linkers of the common distributions search.
const DEFAULT_DIRS: &[&str] = &[
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
    "/usr/local/lib",
];

/// Most libraries followed for one program.
const MOST: usize = 256;

/// TLS libraries that interpreters load by name long after they started.
const LOADED_LATER: &[&str] = &["libssl.so.3", "libssl.so.1.1"];

/// File names of programs that run other people's code and may load a TLS library at any time.
const INTERPRETERS: &[&str] =
    &["python", "node", "ruby", "perl", "php", "java", "deno", "bun", "dotnet", "pwsh", "R", "julia", "guile", "lua"];

/// Whether a program of this name loads libraries at run time.
pub fn is_interpreter(exe: &Path) -> bool {
    let name = exe.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    INTERPRETERS.iter().any(|known| name.strip_prefix(known).is_some_and(is_version))
}

fn is_version(rest: &str) -> bool {
    rest.chars().all(|c| c.is_ascii_digit() || c == '.' || c == '-')
}

/// The shared TLS libraries of the system that `pid` lives in: what a program started next is likely to map.
pub fn usual_libraries(images: &mut Images, pid: u32) -> Vec<Arc<Image>> {
    let dirs = DEFAULT_DIRS.iter().map(Path::new);
    let paths = dirs.flat_map(|dir| LOADED_LATER.iter().map(move |name| dir.join(name)));
    let mut found: Vec<Arc<Image>> = Vec::new();
    for path in paths {
        if let Ok(image) = images.open(&proc::inside(pid, &path), &path)
            && !image.hooks.is_empty()
            && !found.iter().any(|known| known.id == image.id)
        {
            found.push(image);
        }
    }
    found
}

/// A program whose libraries are looked for.
pub struct Program<'a> {
    /// A process in whose mount namespace the paths are meant.
    pub pid: u32,
    /// The program.
    pub image: &'a Arc<Image>,
    /// Its `LD_LIBRARY_PATH`.
    pub library_path: Option<String>,
}

/// The images with hooks that the program will map: itself, what it needs, and what needs need.
pub fn hookable(images: &mut Images, program: &Program<'_>) -> Vec<Arc<Image>> {
    let mut all = vec![Arc::clone(program.image)];
    let mut names: Vec<String> = Vec::new();
    let mut next = 0;
    while let Some(image) = all.get(next).cloned() {
        next += 1;
        let later = next == 1 && !image.needed.is_empty() && is_interpreter(&image.path);
        let extra = LOADED_LATER.iter().filter(|_| later).map(|name| (*name).to_owned());
        for name in image.needed.iter().cloned().chain(extra) {
            if names.contains(&name) || all.len() >= MOST {
                continue;
            }
            if let Some(found) = find(images, program, &image, &name) {
                all.push(found);
            }
            names.push(name);
        }
    }
    all.retain(|image| !image.hooks.is_empty());
    all
}

fn find(images: &mut Images, program: &Program<'_>, of: &Image, name: &str) -> Option<Arc<Image>> {
    let origin = of.path.parent().unwrap_or(Path::new("/"));
    let own = of.runpath.iter().map(|dir| {
        PathBuf::from(dir.replace("$ORIGIN", &origin.to_string_lossy()).replace("${ORIGIN}", &origin.to_string_lossy()))
    });
    let set = program.library_path.as_deref().unwrap_or_default().split(':').filter(|dir| !dir.is_empty());
    let usual = DEFAULT_DIRS.iter().map(PathBuf::from);
    let dirs = set.map(PathBuf::from).chain(own).chain(usual);
    dirs.map(|dir| dir.join(name)).find_map(|path| images.open(&proc::inside(program.pid, &path), &path).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_told_by_name_and_version() {
        for name in ["python3", "python3.11", "/usr/bin/node", "node20", "perl", "ruby3.1"] {
            assert!(is_interpreter(Path::new(name)), "{name}");
        }
        for name in ["pythonista", "nodemon", "sh", "curl", "claude", ""] {
            assert!(!is_interpreter(Path::new(name)), "{name}");
        }
    }
}
