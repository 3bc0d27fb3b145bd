//! The ground truth is tested too: the scripted model server's own tests, in its own Python environment.

use std::path::{Path, PathBuf};
use std::process::Command;

fn cache(root: &Path) -> PathBuf {
    std::env::var_os("HERON_TEST_CACHE").map_or_else(|| root.join("target/test-cache"), PathBuf::from)
}

#[test]
fn the_scripted_server_records_what_it_received_and_sent() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let installed = Command::new(root.join("testdata/install-sdks.sh")).arg("--server-only").status();
    assert!(installed.is_ok_and(|status| status.success()), "testdata/install-sdks.sh --server-only failed");
    let output = Command::new(cache(root).join("venv/bin/python"))
        .args(["-m", "unittest", "discover", "-s", "testdata/server"])
        .current_dir(root)
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("\nOK"), "no test ran:\n{said}");
}
