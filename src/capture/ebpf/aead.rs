//! Which AEAD functions below rustls are hooked, and what each does of a record: `bpf/aead.bpf.c` is the other half.

use heron_symbols::{Abi, Backend, Confidence, Function, Library, Role, Tls, Unit};

use super::image::{Hook, Pair, argument};
use super::skel::types;

/// The functions of a library to hook, and why others are not.
#[derive(Default, Debug)]
pub(super) struct Choice {
    /// Seals and opens.
    pub hooks: Vec<Hook>,
    /// What is not seen of this library; `None` when it is seen whole, or is no rustls.
    pub left_out: Option<String>,
}

/// Chooses among the functions of rustls.
pub(super) fn hooks(library: &Tls) -> Choice {
    let Library::Rustls(backend) = library.library else {
        return Choice::default();
    };
    let hooks: Vec<Hook> = library.functions.iter().filter_map(|function| hook(function, backend)).collect();
    let names: Vec<&str> = hooks.iter().map(|hook| hook.name.as_str()).collect();
    let left_out = if sees_aes(backend, &names, Processor::here()) {
        None
    } else {
        Some(format!("{}: AES-GCM of this processor is not seen", library.library.name()))
    };
    Choice { hooks, left_out }
}

/// What decides which variant the libraries take.
#[derive(Clone, Copy, Debug)]
struct Processor {
    avx: bool,
    vaes: bool,
    avx512: bool,
}

impl Processor {
    #[cfg(target_arch = "x86_64")]
    fn here() -> Processor {
        use std::arch::is_x86_feature_detected as has;
        let vaes = has!("avx2") && has!("vaes") && has!("vpclmulqdq");
        Processor {
            avx: has!("avx") && has!("movbe"),
            vaes,
            avx512: vaes && has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl"),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn here() -> Processor {
        Processor { avx: false, vaes: false, avx512: false }
    }
}

/// Whether the AES-GCM that the library takes on this processor is among the hooked functions.
fn sees_aes(backend: Backend, names: &[&str], here: Processor) -> bool {
    let has = |name: &str| names.contains(&name);
    let both = |one: &str, other: &str| has(one) && has(other);
    let begun = both("aesni_gcm_encrypt", "aesni_gcm_decrypt") && here.avx;
    match backend {
        Backend::AwsLc if here.avx512 && both("aes_gcm_encrypt_avx512", "aes_gcm_decrypt_avx512") => true,
        Backend::AwsLc => begun && has(DIGEST),
        Backend::Ring if here.vaes && both("aes_gcm_enc_update_vaes_avx2", "aes_gcm_dec_update_vaes_avx2") => {
            has(COUNTER)
        }
        Backend::Ring => begun && (has(DIGEST) || has(COUNTER)),
        Backend::OpenSsl => false,
    }
}

const COUNTER: &str = "aes_hw_ctr32_encrypt_blocks";
const DIGEST: &str = "gcm_gmult_clmul";

/// How much of a record a function is told of.
fn counting(name: &str) -> Option<types::heron_count> {
    match name {
        "aes_gcm_encrypt_avx512" | "aes_gcm_decrypt_avx512" | "chacha20_poly1305_seal" | "chacha20_poly1305_open" => {
            Some(types::heron_count::HERON_COUNT_LEN)
        }
        "aesni_gcm_encrypt" | "aesni_gcm_decrypt" => Some(types::heron_count::HERON_COUNT_BEGUN),
        "aes_gcm_enc_update_vaes_avx2" | "aes_gcm_dec_update_vaes_avx2" => Some(types::heron_count::HERON_COUNT_BLOCKS),
        _ => None,
    }
}

fn hook(function: &Function, backend: Backend) -> Option<Hook> {
    // A place that only one method found is not probed: a wrong one would kill the process.
    if function.confidence == Confidence::Candidate || function.layout.abi != Abi::C {
        return None;
    }
    let name = function.symbol.clone()?;
    let entry = function.entry_site.file_offset;
    let leave = function.return_site.as_ref()?.file_offset;
    let step = |role: types::heron_role, leaves| {
        Some(Hook { pair: Pair::AeadStep, entry, leaves, cookie: u64::from(role.0), name: name.clone() })
    };
    let role = match function.role {
        Role::AeadSeal => types::heron_role::HERON_ROLE_SEAL,
        Role::AeadOpen => types::heron_role::HERON_ROLE_OPEN,
        // aws-lc ends a record without it.
        Role::AeadCounter if backend == Backend::Ring => {
            return step(types::heron_role::HERON_ROLE_COUNTER, vec![leave]);
        }
        Role::AeadDigest => return step(types::heron_role::HERON_ROLE_DIGEST, Vec::new()),
        _ => return None,
    };
    let (count, layout) = (counting(&name)?, &function.layout);
    if layout.length_unit != Unit::Byte {
        return None;
    }
    let leaves = if count == types::heron_count::HERON_COUNT_LEN { vec![leave] } else { Vec::new() };
    // The kernel side reads 32 bytes of the key in any case: the key itself, or what is expanded from it first.
    let cookie = u64::from(role.0)
        | argument(layout.object)? << 8
        | argument(layout.buffer)? << 12
        | argument(layout.length)? << 16
        | argument(layout.other?)? << 20
        | u64::from(count.0) << 24;
    Some(Hook { pair: Pair::Aead, entry, leaves, cookie, name })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Processor = Processor { avx: true, vaes: true, avx512: true };
    const PLAIN: Processor = Processor { vaes: false, avx512: false, ..NEW };

    #[test]
    fn what_is_seen_of_a_library_depends_on_the_processor() {
        let ring = ["aes_gcm_enc_update_vaes_avx2", "aes_gcm_dec_update_vaes_avx2", COUNTER];
        assert!(sees_aes(Backend::Ring, &ring, NEW));
        assert!(!sees_aes(Backend::Ring, &ring, PLAIN), "there it would take functions that are not hooked");
        let older = ["aesni_gcm_encrypt", "aesni_gcm_decrypt", DIGEST];
        assert!(sees_aes(Backend::Ring, &older, NEW) && sees_aes(Backend::Ring, &older, PLAIN));
        assert!(!sees_aes(Backend::Ring, &older, Processor { avx: false, ..PLAIN }));
        let aws = ["aes_gcm_encrypt_avx512", "aes_gcm_decrypt_avx512"];
        assert!(sees_aes(Backend::AwsLc, &aws, NEW));
        assert!(!sees_aes(Backend::AwsLc, &aws, PLAIN));
        assert!(sees_aes(Backend::AwsLc, &older, PLAIN));
    }
}
