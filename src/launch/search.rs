//! Finding a command's file the way the calling user's shell would.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::is_executable;

/// The file of a command: a path as it is, else the first hit in the search path.
pub fn find(name: &OsStr, search_path: &str) -> Result<PathBuf> {
    let as_path = Path::new(name);
    if name.to_string_lossy().contains('/') {
        if !as_path.exists() {
            bail!("{} does not exist", as_path.display());
        }
        if !is_executable(as_path) {
            bail!("{} is not executable", as_path.display());
        }
        return Ok(as_path.to_owned());
    }
    if let Some(found) = in_path(name, search_path) {
        return Ok(found);
    }
    bail!("{}: command not found (searched {search_path})", as_path.display())
}

/// The first executable of this name in the search path.
pub fn in_path(name: &OsStr, search_path: &str) -> Option<PathBuf> {
    let directories = search_path.split(':').map(|dir| if dir.is_empty() { "." } else { dir });
    directories.map(|dir| Path::new(dir).join(name)).find(|path| is_executable(path))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_executable_of_the_path_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        for place in [&a, &b] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("tool"), "").unwrap();
        }
        fs::set_permissions(b.join("tool"), fs::Permissions::from_mode(0o755)).unwrap();
        let path = format!("{}:{}", a.display(), b.display());
        assert_eq!(find(OsStr::new("tool"), &path).unwrap(), b.join("tool"));
        assert!(find(OsStr::new("no-such-tool"), &path).unwrap_err().to_string().contains("not found"));
    }

    #[test]
    fn a_path_is_taken_as_it_is_and_refused_in_one_sentence() {
        assert_eq!(find(OsStr::new("/bin/sh"), "").unwrap(), Path::new("/bin/sh"));
        assert!(find(OsStr::new("/no/such"), "").unwrap_err().to_string().contains("does not exist"));
        assert!(find(OsStr::new("/etc/passwd"), "").unwrap_err().to_string().contains("not executable"));
    }
}
