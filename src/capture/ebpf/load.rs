//! Opens, configures and loads the BPF object.

use std::mem::MaybeUninit;

use anyhow::{Context, Result, anyhow, bail};
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, OpenObject, ProgramAttachType};

use super::Config;
use super::facts::Facts;
use super::skel::{HeronSkel, HeronSkelBuilder, OpenHeronSkel, types};

/// Loads the object for this kernel into `place`, which the caller keeps: the skeleton borrows from it.
pub fn load<'a>(config: &Config, facts: &Facts, place: &'a mut MaybeUninit<OpenObject>) -> Result<HeronSkel<'a>> {
    if let Some(why) = facts.obstacle() {
        bail!(why);
    }
    let decisions = config.decisions.unwrap_or_else(|| facts.decide());
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Debug, log)));
    let mut open = HeronSkelBuilder::default().open(place).context("cannot open heron's BPF object")?;
    if !decisions.uprobe_multi {
        perf_programs(&mut open);
    }
    if !facts.sock_length {
        open.progs.heron_sock_send.set_autoload(false);
        open.progs.heron_sock_recv.set_autoload(false);
    }
    let rodata = open.maps.rodata_data.as_deref_mut().ok_or_else(|| anyhow!("the BPF object has no configuration"))?;
    rodata.heron_exact_records = u32::from(decisions.exact_records);
    rodata.heron_sleepable = u32::from(decisions.sleepable);
    rodata.heron_filter = u32::from(config.filter);
    rodata.heron_pidns = facts.pid_namespace;
    rodata.heron_host = u32::from(config.choose.is_some());
    rodata.heron_strict = u32::from(config.strict);
    rodata.heron_chunk_bytes = (config.ring_bytes / 8).min(1 << 20);
    rodata.heron_wake_bytes = config.ring_bytes / 8;
    open.maps.data_ring.set_max_entries(config.ring_bytes).context("cannot size the data ring")?;
    let skel = open.load().with_context(|| {
        format!(
            "kernel {} refused heron's BPF programs (`heron doctor` says what it can do, HERON_LOG=debug why)",
            facts.release
        )
    })?;
    fill_rules(&skel, &config.path_rules)?;
    Ok(skel)
}

/// Makes the hooks programs that perf events may run; a program is for one of the two kinds of probes only.
fn perf_programs(open: &mut OpenHeronSkel<'_>) {
    let progs = &mut open.progs;
    for program in [
        &mut progs.heron_enter,
        &mut progs.heron_leave,
        &mut progs.heron_go_enter,
        &mut progs.heron_go_leave,
        &mut progs.heron_aead_enter,
        &mut progs.heron_aead_leave,
        &mut progs.heron_aead_step,
        &mut progs.heron_aead_step_leave,
    ] {
        // Its number is 0, which means none in particular.
        program.set_attach_type(ProgramAttachType::CgroupInetIngress);
    }
}

/// What libbpf says, the verifier's log included, is for `HERON_LOG=debug`.
fn log(_: libbpf_rs::PrintLevel, text: String) {
    tracing::debug!(target: "libbpf", "{}", text.trim_end());
}

fn fill_rules(skel: &HeronSkel<'_>, rules: &[String]) -> Result<()> {
    for rule in rules {
        let mut key = [0u8; size_of::<types::heron_tail>()];
        let Some(room) = key.get_mut(..rule.len()).filter(|room| room.len() < size_of::<types::heron_tail>()) else {
            bail!("path rule {rule:?} is longer than the kernel side can compare");
        };
        room.copy_from_slice(rule.as_bytes());
        skel.maps.path_rules.update(&key, &[1], MapFlags::ANY).context("cannot fill the path table")?;
    }
    Ok(())
}

/// Puts a process into the watch map.
pub fn watch(skel: &HeronSkel<'_>, pid: u32, start: u64, strict: bool) -> Result<()> {
    let mut value = [0u8; size_of::<types::heron_watch>()];
    value[..8].copy_from_slice(&start.to_ne_bytes());
    let flags = if strict { types::heron_watch_flag::HERON_WATCH_STRICT.0 } else { 0 };
    value[12..16].copy_from_slice(&flags.to_ne_bytes());
    let watched = skel.maps.watch.update(&pid.to_ne_bytes(), &value, MapFlags::ANY);
    watched.with_context(|| format!("cannot watch process {pid}"))
}
