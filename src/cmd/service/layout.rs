//! Where the service's files are below a root directory, and how they are written and removed.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::proc;

/// Where a package puts the program, and what the packaged unit names.
pub const PACKAGED_PROGRAM: &str = "/usr/bin/heron";
/// The configuration.
pub const CONFIG: &str = "etc/heron/heron.toml";
/// What the service keeps.
pub const STATE_DIRECTORY: &str = "/var/lib/heron";

/// A program that not only root may change is copied to here, with its library.
const OWN_DIRECTORY: &str = "/usr/local/lib/heron";
const UNIT: &str = "etc/systemd/system/heron.service";
const WANTS: &str = "etc/systemd/system/multi-user.target.wants/heron.service";
const PACKAGED_UNITS: &[&str] = &["usr/lib/systemd/system/heron.service", "lib/systemd/system/heron.service"];
const LIBRARY: &str = "libduckdb.so";

/// What came of writing a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Written {
    /// It was not there.
    New,
    /// It was there, and another one.
    Changed,
    /// It was there already.
    Same,
}

/// The files of the service below one root.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// The layout below `root`, which is made when it is missing.
    pub fn new(root: &Path) -> Result<Layout> {
        fs::create_dir_all(root).with_context(|| format!("cannot make {}", root.display()))?;
        let root = fs::canonicalize(root).with_context(|| format!("cannot use {}", root.display()))?;
        Ok(Layout { root })
    }

    /// Whether it is the running machine's own.
    pub fn is_machine(&self) -> bool {
        self.root == Path::new("/")
    }

    /// The root.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path of the root, seen from here.
    pub fn under(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.root.join(CONFIG)
    }

    /// The unit that `install` writes.
    pub fn unit(&self) -> PathBuf {
        self.root.join(UNIT)
    }

    /// The unit that a package brought.
    pub fn packaged_unit(&self) -> Option<PathBuf> {
        PACKAGED_UNITS.iter().map(|path| self.root.join(path)).find(|path| path.exists())
    }

    /// The unit that is in force.
    pub fn installed_unit(&self) -> Option<PathBuf> {
        Some(self.unit()).filter(|unit| unit.exists()).or_else(|| self.packaged_unit())
    }

    /// Whether the service is started at boot.
    pub fn is_enabled(&self) -> bool {
        self.root.join(WANTS).is_symlink()
    }

    /// What `systemctl enable` does, where no systemd runs.
    pub fn enable(&self) -> Result<()> {
        let link = self.root.join(WANTS);
        make_parent(&link)?;
        let target = match self.packaged_unit() {
            Some(unit) => Path::new("/").join(unit.strip_prefix(&self.root).unwrap_or(&unit)),
            None => Path::new("/").join(UNIT),
        };
        if fs::read_link(&link).is_ok_and(|current| current == target) {
            return Ok(());
        }
        remove(&link)?;
        symlink(&target, &link).with_context(|| format!("cannot make {}", link.display()))
    }

    /// The directory of the database, for root only.
    pub fn make_state_directory(&self) -> Result<()> {
        let path = self.under(Path::new(STATE_DIRECTORY));
        make_parent(&path)?;
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(error).with_context(|| format!("cannot make {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// The program that the unit is to start, as seen in the root: the packaged one, this one when nobody but root can
    /// change it (the service runs as root: it must not start what a user may overwrite), else a copy of this one.
    pub fn place_program(&self) -> Result<(PathBuf, Option<Written>)> {
        let own = std::env::current_exe().context("cannot find heron's own program")?;
        let packaged = Path::new(PACKAGED_PROGRAM);
        if !self.is_machine() && self.under(packaged).exists() {
            return Ok((packaged.to_owned(), None));
        }
        if self.is_machine() && only_root_changes(&own) {
            return Ok((own, None));
        }
        let directory = Path::new(OWN_DIRECTORY);
        let program = directory.join("heron");
        let written = copy(Path::new("/proc/self/exe"), &self.under(&program))?;
        // The library is found beside the program.
        let library = proc::images(std::process::id()).into_iter().find(|image| image.path.ends_with(LIBRARY));
        if let Some(library) = library {
            copy(&library.via, &self.under(&directory.join(LIBRARY)))?;
        }
        Ok((program, Some(written)))
    }

    /// Removes what `install` wrote, but not configuration and data. What was removed.
    pub fn remove_installed(&self) -> Result<Vec<PathBuf>> {
        let own = self.under(Path::new(OWN_DIRECTORY));
        let files = [self.root.join(WANTS), self.unit(), own.join("heron"), own.join(LIBRARY)];
        let removed = remove_all(files)?;
        remove_when_empty(&own);
        Ok(removed)
    }

    /// Removes configuration and data. What was removed.
    pub fn purge(&self) -> Result<Vec<PathBuf>> {
        let mut removed = remove_all([self.config()])?;
        if let Some(directory) = self.config().parent() {
            remove_when_empty(directory);
        }
        let state = self.under(Path::new(STATE_DIRECTORY));
        if state.exists() {
            fs::remove_dir_all(&state).with_context(|| format!("cannot remove {}", state.display()))?;
            removed.push(state);
        }
        Ok(removed)
    }
}

/// Writes a file as a whole: a reader sees the old one or the new one.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<Written> {
    let before = fs::read(path).ok();
    if before.as_deref() == Some(text.as_bytes()) {
        return Ok(Written::Same);
    }
    replace(path, mode, |file| file.write_all(text.as_bytes()))?;
    Ok(if before.is_some() { Written::Changed } else { Written::New })
}

/// Copies a program; the same size and time mean that it is there already.
fn copy(from: &Path, to: &Path) -> Result<Written> {
    let mut source = File::open(from).with_context(|| format!("cannot read {}", from.display()))?;
    let meta = source.metadata().with_context(|| format!("cannot read {}", from.display()))?;
    let there = fs::metadata(to).ok();
    let time = |meta: &fs::Metadata| meta.modified().ok();
    if there.as_ref().is_some_and(|there| there.len() == meta.len() && time(there) == time(&meta)) {
        return Ok(Written::Same);
    }
    replace(to, 0o755, |file| {
        io::copy(&mut source, file)?;
        time(&meta).map_or(Ok(()), |time| file.set_modified(time))
    })?;
    Ok(if there.is_some() { Written::Changed } else { Written::New })
}

fn replace(path: &Path, mode: u32, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<()> {
    make_parent(path)?;
    let cannot = || format!("cannot write {}", path.display());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let mut file = File::create(&new).with_context(cannot)?;
    file.set_permissions(fs::Permissions::from_mode(mode)).with_context(cannot)?;
    fill(&mut file).and_then(|()| file.sync_all()).with_context(cannot)?;
    fs::rename(&new, path).with_context(cannot)
}

fn make_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent() else { return Ok(()) };
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))
}

/// Removes a file or link; whether there was one.
fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot remove {}", path.display())),
    }
}

fn remove_all(paths: impl IntoIterator<Item = PathBuf>) -> Result<Vec<PathBuf>> {
    let mut removed = Vec::new();
    for path in paths {
        if remove(&path)? {
            removed.push(path);
        }
    }
    Ok(removed)
}

/// A directory with somebody else's files stays.
fn remove_when_empty(directory: &Path) {
    if let Err(error) = fs::remove_dir(directory) {
        tracing::debug!(%error, path = %directory.display(), "the directory stays");
    }
}

/// Whether the file and every directory above it belong to root and nobody else may write to them.
fn only_root_changes(path: &Path) -> bool {
    let is_roots = |path: &Path| fs::metadata(path).is_ok_and(|meta| meta.uid() == 0 && meta.mode() & 0o022 == 0);
    path.ancestors().all(is_roots)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_program_below_a_directory_that_others_may_write_to_is_not_only_roots() {
        assert!(only_root_changes(Path::new("/usr/bin/env")));
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("heron"), "").unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!only_root_changes(&dir.path().join("heron")));
    }

    #[test]
    fn a_copy_is_made_once_and_renewed_when_the_program_changed() {
        let dir = tempfile::tempdir().unwrap();
        let [from, to] = ["from", "lib/heron/to"].map(|name| dir.path().join(name));
        fs::write(&from, "one").unwrap();
        assert_eq!(copy(&from, &to).unwrap(), Written::New);
        assert_eq!(copy(&from, &to).unwrap(), Written::Same);
        fs::write(&from, "two more").unwrap();
        assert_eq!(copy(&from, &to).unwrap(), Written::Changed);
        assert_eq!(fs::read(&to).unwrap(), b"two more");
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o777, 0o755);
    }
}
