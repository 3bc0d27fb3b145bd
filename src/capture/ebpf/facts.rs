//! What this kernel can do, what heron therefore does, and the configuration that follows: three separate steps.
//!
//! `heron doctor` prints the first two. Nothing here loads a program.

use std::fs;
use std::path::Path;

use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Func, Typedef};
use serde::Serialize;

/// What was found out about the kernel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Facts {
    /// `uname -r`.
    pub release: String,
    /// Major and minor version.
    pub version: (u32, u32),
    /// `/sys/kernel/btf/vmlinux` can be read.
    pub btf: bool,
    /// Effective user is root.
    pub root: bool,
    /// Ring dynptrs can be filled from pageable user memory (6.16).
    pub user_dynptr: bool,
    /// Many probes in one link, with offsets, cookies and a pid filter (6.6).
    pub uprobe_multi: bool,
    /// The inode of heron's pid namespace (a container has its own), 0 for the initial one: processes outside of it are not seen.
    pub pid_namespace: u32,
    /// Tracepoints that tell which socket moved how many bytes (6.3).
    pub sock_length: bool,
    /// `confidentiality`, `integrity` or `none`.
    pub lockdown: String,
}

/// How heron works on this kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct Decisions {
    /// One record of exactly the payload's size instead of size classes.
    pub exact_records: bool,
    /// The TLS hooks fault pages in.
    pub sleepable: bool,
    /// Links of many probes instead of one perf event each.
    pub uprobe_multi: bool,
}

impl Facts {
    /// Looks at the running kernel.
    pub fn gather() -> Facts {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        let version = parse_version(&release);
        let btf = Btf::from_vmlinux().ok();
        let has = |name: &str| btf.as_ref().is_some_and(|btf| has_function(btf, name));
        Facts {
            version,
            btf: btf.is_some(),
            root: nix::unistd::geteuid().is_root(),
            user_dynptr: has("bpf_copy_from_user_dynptr") && has("bpf_probe_read_user_dynptr"),
            uprobe_multi: has("bpf_uprobe_multi_link_attach"),
            sock_length: btf.as_ref().is_some_and(|btf| has_tracepoint(btf, "sock_send_length")),
            pid_namespace: pid_namespace(),
            lockdown: lockdown(),
            release,
        }
    }

    /// Why heron cannot work here at all, in one sentence with what to do; `None` when it can.
    pub fn obstacle(&self) -> Option<String> {
        if !self.root {
            return Some("heron needs root to load its BPF programs: run it with sudo".to_owned());
        }
        if !self.btf {
            return Some(format!(
                "kernel {} has no type information (/sys/kernel/btf/vmlinux): boot a kernel built with CONFIG_DEBUG_INFO_BTF",
                self.release
            ));
        }
        if self.version < OLDEST {
            return Some(format!(
                "kernel {} has no uprobes that may read memory which is paged out: kernel 6.0 or newer is needed",
                self.release
            ));
        }
        if self.lockdown == "confidentiality" {
            return Some(
                "kernel lockdown is set to confidentiality, which forbids reading user memory: boot with lockdown=integrity"
                    .to_owned(),
            );
        }
        None
    }

    /// What follows from the facts, and from `HERON_BACKEND`: `perf` and `classes` (or both, with a comma) choose the ways
    /// of older kernels.
    pub fn decide(&self) -> Decisions {
        self.decide_with(&std::env::var("HERON_BACKEND").unwrap_or_default())
    }

    fn decide_with(&self, wish: &str) -> Decisions {
        let wishes = |way: &str| wish.split(',').any(|word| word.trim() == way);
        Decisions {
            exact_records: self.user_dynptr && !wishes("classes"),
            sleepable: true,
            uprobe_multi: self.uprobe_multi && !wishes("perf"),
        }
    }
}

/// Sleepable uprobes: what is hooked may be paged out.
const OLDEST: (u32, u32) = (6, 0);

fn has_tracepoint(btf: &Btf<'_>, name: &str) -> bool {
    btf.type_by_name::<Typedef<'_>>(&format!("btf_trace_{name}")).is_some()
}

fn has_function(btf: &Btf<'_>, name: &str) -> bool {
    btf.type_by_name::<Func<'_>>(name).is_some()
}

fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The initial namespace has a number of its own since Linux 3.8 (`PROC_PID_INIT_INO`).
fn pid_namespace() -> u32 {
    use std::os::unix::fs::MetadataExt;
    const INITIAL: u32 = 0xeffffffc;
    let inode = fs::metadata("/proc/self/ns/pid").ok().and_then(|meta| u32::try_from(meta.ino()).ok());
    inode.filter(|inode| *inode != INITIAL).unwrap_or(0)
}

fn lockdown() -> String {
    let text = fs::read_to_string(Path::new("/sys/kernel/security/lockdown")).unwrap_or_default();
    let active = text.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    active.unwrap_or("none").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_any_release_string() {
        assert_eq!(parse_version("6.18.44-fc-v669"), (6, 18));
        assert_eq!(parse_version("5.10.0-28-cloud-amd64"), (5, 10));
        assert_eq!(parse_version("7.2-rc1"), (7, 2));
        assert_eq!(parse_version(""), (0, 0));
    }

    #[test]
    fn an_old_kernel_and_a_missing_privilege_are_one_sentence_each() {
        let good = Facts {
            release: "6.18.0".to_owned(),
            version: (6, 18),
            btf: true,
            root: true,
            user_dynptr: true,
            uprobe_multi: true,
            sock_length: true,
            pid_namespace: 0,
            lockdown: "none".to_owned(),
        };
        assert_eq!(good.obstacle(), None);
        assert!(Facts { root: false, ..good.clone() }.obstacle().is_some_and(|why| why.contains("sudo")));
        assert!(Facts { btf: false, ..good.clone() }.obstacle().is_some_and(|why| why.contains("BTF")));
        assert_eq!(Facts { uprobe_multi: false, version: (6, 1), ..good.clone() }.obstacle(), None, "there is perf");
        assert!(Facts { version: (5, 10), ..good.clone() }.obstacle().is_some_and(|why| why.contains("6.0")));
        assert!(good.decide_with("").uprobe_multi && good.decide_with("").exact_records);
        assert!(!good.decide_with("perf, classes").uprobe_multi && !good.decide_with("perf,classes").exact_records);
    }
}
