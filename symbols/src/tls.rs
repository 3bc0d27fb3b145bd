//! What an analysis says: plain data, no behaviour beyond look-ups.
//!
//! Everything a caller needs to place probes is here as file offsets (what a uprobe takes), and everything a
//! generic BPF program needs to read arguments is in [`Layout`]. All types derive serde's traits under the
//! feature `serde`, so that an analysis can be cached by build-id or printed as JSON.

#[cfg(feature = "serde")]
use serde::{Deserialize, Serialize};

use crate::forward::{READ_FORMS, WRITE_FORMS};

/// Everything [`crate::analyse`] found out about one ELF file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Analysis {
    /// The GNU build-id (or Go's, when the GNU note is absent): the key of a cache.
    pub build_id: Option<Vec<u8>>,
    /// The instruction set.
    pub arch: Arch,
    /// What kind of image this is.
    pub image: ImageFacts,
    /// One entry per TLS library found in the file. A file may carry several.
    pub libraries: Vec<Tls>,
    /// Families whose traces are in the file but whose functions were not found or were refused, and why.
    pub misses: Vec<Miss>,
}

impl Analysis {
    /// The build-id as lower-case hex.
    pub fn build_id_hex(&self) -> Option<String> {
        use std::fmt::Write;
        self.build_id.as_ref().map(|id| {
            id.iter().fold(String::new(), |mut s, b| {
                let _ = write!(s, "{b:02x}");
                s
            })
        })
    }

    /// The libraries to attach: all but the fallback ones.
    pub fn preferred(&self) -> impl Iterator<Item = &Tls> {
        self.libraries.iter().filter(|l| !l.fallback)
    }
}

/// The instruction set of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Arch {
    /// x86-64.
    X86_64,
    /// 64-bit ARM, little endian.
    Aarch64,
    /// Anything else, or not an ELF file: nothing is looked for.
    #[default]
    Other,
}

/// Facts about the image that decide how it may be probed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct ImageFacts {
    /// `Some` for a Go program: never place a uretprobe in it.
    pub go: Option<GoFacts>,
    /// Position-independent but without an interpreter and without needed libraries.
    pub static_pie: bool,
    /// Has an interpreter or is a shared library with dependencies.
    pub dynamic: bool,
    /// Has no `.symtab` with defined functions beyond what `.dynsym` exports.
    pub stripped: bool,
    /// A shared library or a PIE (`ET_DYN`).
    pub position_independent: bool,
    /// The `DT_SONAME`, for shared libraries.
    pub soname: Option<String>,
}

/// What is known about a Go program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct GoFacts {
    /// Such as `go1.27.3`, from the build information; absent when that was removed.
    pub version: Option<String>,
}

/// One TLS library found in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Tls {
    /// Which library.
    pub library: Library,
    /// Its version where the file says it, such as `OpenSSL 3.5.8 1 Sep 2026`.
    pub version: Option<String>,
    /// The weakest confidence among the reading and writing functions.
    pub confidence: Confidence,
    /// Only for use when no other library of the process sees traffic: the AEAD assembly below something that was
    /// found for itself, or of a `libcrypto` that others use. Beside another library that does see traffic it
    /// would show the same bytes twice.
    pub fallback: bool,
    /// The functions, ordered by role and address.
    pub functions: Vec<Function>,
}

impl Tls {
    /// All functions of one role (several when they are candidates, or when a stack has variants).
    pub fn role(&self, role: Role) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(move |f| f.role == role)
    }

    /// The functions worth a hook: where the one below two public forms is known, they are left out, for it sees all of their
    /// calls at a lower price.
    pub fn hooked(&self) -> impl Iterator<Item = &Function> {
        let below = |role: Role| self.functions.iter().any(|f| f.role == role);
        let (reading, writing) = (below(Role::ReadInternal), below(Role::WriteInternal));
        self.functions.iter().filter(move |f| {
            let name = f.symbol.as_deref().unwrap_or_default();
            !(reading && READ_FORMS.contains(&name) || writing && WRITE_FORMS.contains(&name))
        })
    }
}

/// A TLS library, as far as probing is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Library {
    /// OpenSSL 1.1 or 3.x (or LibreSSL), shared or static.
    OpenSsl,
    /// BoringSSL or AWS-LC's libssl.
    BoringSsl,
    /// GnuTLS.
    GnuTls,
    /// NSS above NSPR. `PR_Read` and `PR_Write` see files and plain sockets too.
    Nss,
    /// Go's `crypto/tls`.
    GoCryptoTls,
    /// rustls above the named cryptography.
    Rustls(
        /// Whose assembly does the AEAD work.
        Backend,
    ),
    /// AEAD assembly without a known TLS library above it.
    Aead(
        /// Whose assembly.
        Backend,
    ),
}

impl Library {
    /// The name people use.
    pub fn name(self) -> &'static str {
        match self {
            Library::OpenSsl => "OpenSSL",
            Library::BoringSsl => "BoringSSL",
            Library::GnuTls => "GnuTLS",
            Library::Nss => "NSS",
            Library::GoCryptoTls => "Go crypto/tls",
            Library::Rustls(Backend::Ring) => "rustls (ring)",
            Library::Rustls(Backend::AwsLc) => "rustls (aws-lc)",
            Library::Rustls(Backend::OpenSsl) => "rustls (OpenSSL)",
            Library::Aead(Backend::Ring) => "AEAD (BoringSSL or ring)",
            Library::Aead(Backend::AwsLc) => "AEAD (aws-lc)",
            Library::Aead(Backend::OpenSsl) => "AEAD (OpenSSL)",
        }
    }
}

/// Where AEAD assembly comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Backend {
    /// ring, or BoringSSL of which ring's assembly is a copy.
    Ring,
    /// AWS-LC.
    AwsLc,
    /// OpenSSL.
    OpenSsl,
}

/// How far a result can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Confidence {
    /// Needs probation: attach, watch whether the arguments behave, else detach.
    Candidate,
    /// Two independent methods agree on the address.
    Agreed,
    /// The file itself names the function at this address.
    Exact,
}

/// What a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Role {
    /// `int SSL_read(SSL*, void *buf, int num)`.
    Read,
    /// `int SSL_write(SSL*, const void *buf, int num)`.
    Write,
    /// `int SSL_read_ex(SSL*, void *buf, size_t num, size_t *readbytes)`.
    ReadEx,
    /// `int SSL_write_ex(SSL*, const void *buf, size_t num, size_t *written)`.
    WriteEx,
    /// `int SSL_write_ex2(SSL*, const void *buf, size_t num, uint64_t flags, size_t *written)`.
    WriteEx2,
    /// `int ssl_read_internal(SSL*, void *buf, size_t num, size_t *readbytes)` of a static OpenSSL.
    ReadInternal,
    /// `int ssl_write_internal(SSL*, const void *buf, size_t num, [uint64_t flags,] size_t *written)` of a static
    /// OpenSSL; `flags` exists from 3.3 on, and [`Layout::moved`] says which form this one is.
    WriteInternal,
    /// `SSL_peek`, `SSL_peek_ex`: reads without consuming. Known in order *not* to be probed.
    Peek,
    /// `SSL_do_handshake`, `SSL_connect`, `SSL_accept`, `gnutls_handshake`, `SSL_ForceHandshake`.
    Handshake,
    /// `SSL_free`, `gnutls_deinit`: the session pointer may be reused afterwards.
    Free,
    /// `SSL_set_fd(SSL*, int fd)` and its read and write forms; `gnutls_transport_set_int2`.
    SetFd,
    /// `BIO_write(BIO*, const void *buf, int len)`: the ciphertext of memory BIOs.
    BioWrite,
    /// `ssize_t gnutls_record_send(session, const void *buf, size_t len)` and `gnutls_record_send2`.
    GnutlsSend,
    /// `ssize_t gnutls_record_recv(session, void *buf, size_t len)` and `gnutls_record_recv_seq`.
    GnutlsRecv,
    /// `PRInt32 PR_Write(fd, const void *buf, PRInt32 amount)`, `PR_Send`.
    NsprWrite,
    /// `PRInt32 PR_Read(fd, void *buf, PRInt32 amount)`, `PR_Recv`.
    NsprRead,
    /// `SSL_ImportFD`: the NSPR descriptor it returns is a TLS one.
    NssImportFd,
    /// `crypto/tls.(*Conn).Read(b []byte) (int, error)`.
    GoRead,
    /// `crypto/tls.(*Conn).Write(b []byte) (int, error)`.
    GoWrite,
    /// AEAD encryption: the plaintext is the input, valid at entry.
    AeadSeal,
    /// AEAD decryption: the plaintext is the output, valid at return.
    AeadOpen,
    /// Counter mode for what the fused functions leave over, both directions: which one it is, the key says.
    AeadCounter,
    /// One step of GHASH on what is there already (`f(xi, htable)`): no payload; the last step of a record comes after all of
    /// its bytes.
    AeadDigest,
}

impl Role {
    /// A function that carries payload towards the peer.
    pub fn writes(self) -> bool {
        matches!(
            self,
            Role::Write
                | Role::WriteEx
                | Role::WriteEx2
                | Role::WriteInternal
                | Role::GnutlsSend
                | Role::NsprWrite
                | Role::GoWrite
                | Role::AeadSeal
        )
    }

    /// A function that carries payload from the peer.
    pub fn reads(self) -> bool {
        matches!(
            self,
            Role::Read
                | Role::ReadEx
                | Role::ReadInternal
                | Role::GnutlsRecv
                | Role::NsprRead
                | Role::GoRead
                | Role::AeadOpen
        )
    }
}

/// One function, with where and how to probe it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Function {
    /// What it does.
    pub role: Role,
    /// Its name in the file, or the name of what it must be when it was found without symbols.
    pub symbol: Option<String>,
    /// Its virtual address in the file's own terms (before relocation).
    pub address: u64,
    /// The same place as an offset in the file: what a uprobe takes.
    pub file_offset: u64,
    /// Where to read arguments.
    pub entry_site: ProbeSite,
    /// Where a uretprobe, or a session uprobe for entry and return, may sit: the return address is still at the
    /// top of the stack there and the arguments are still live. `None`: never place one (Go).
    pub return_site: Option<ProbeSite>,
    /// File offsets of every return instruction, for Go, where a uretprobe would kill the program.
    pub ret_sites: Vec<u64>,
    /// How it was found; for [`Confidence::Agreed`] more than one.
    pub how: Vec<How>,
    /// How far to trust it.
    pub confidence: Confidence,
    /// What its arguments mean.
    pub layout: Layout,
}

/// One way in which a function was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum How {
    /// Exported or imported name in `.dynsym`.
    DynSym,
    /// `.symtab`.
    SymTab,
    /// `.symtab` of the compressed `.gnu_debugdata`.
    DebugData,
    /// Bytes that match a signature of this name.
    Signature(
        /// The signature's name in this crate.
        String,
    ),
    /// Code that loads the address of this string.
    StringXref(
        /// The string.
        String,
    ),
    /// A frame description (`.eh_frame_hdr`) begins at this address.
    Unwind,
    /// Go's own function table.
    GoPclntab,
    /// Instructions do what the function must do (moves of the arguments, state reset, checks).
    Semantics(
        /// What was checked.
        String,
    ),
    /// Bytes of a known AEAD implementation.
    AeadSignature(
        /// The implementation's name, such as `aes_gcm_encrypt_avx512`.
        String,
    ),
}

impl std::fmt::Display for How {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            How::DynSym => f.write_str(".dynsym"),
            How::SymTab => f.write_str(".symtab"),
            How::DebugData => f.write_str(".gnu_debugdata"),
            How::Signature(name) => write!(f, "signature {name}"),
            How::StringXref(text) => write!(f, "loads \"{text}\""),
            How::Unwind => f.write_str("unwind table"),
            How::GoPclntab => f.write_str(".gopclntab"),
            How::Semantics(what) => f.write_str(what),
            How::AeadSignature(name) => write!(f, "AEAD signature {name}"),
        }
    }
}

/// A place where a probe may sit. Always an instruction boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct ProbeSite {
    /// Offset in the file.
    pub file_offset: u64,
    /// What a hit costs.
    pub class: SiteClass,
    /// It is the function's very first instruction.
    pub at_entry: bool,
}

/// What the kernel does with the instruction under a probe. On x86-64 a hit on an emulated one costs a fraction
/// of a hit on a single-stepped one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum SiteClass {
    /// The kernel emulates it (push, jump, call).
    Emulated,
    /// The kernel steps it out of line.
    SingleStepped,
    /// A one-byte nop, with or without prefixes: emulated too.
    Nop,
}

/// How arguments and results are passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Abi {
    /// The platform's C convention: rdi, rsi, rdx, rcx, r8, r9 and rax; x0 to x7 and x0.
    C,
    /// Go's register convention (amd64: rax, rbx, rcx, rdi, rsi and rax back, goroutine in r14; arm64: x0.. and
    /// x0 back, goroutine in x28).
    GoRegister,
    /// Go before 1.17 (amd64) or 1.18 (arm64): arguments and results on the stack.
    GoStack,
}

/// Where one argument is at the function's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Slot {
    /// The n-th (from 0) integer argument register of the [`Abi`].
    Arg(u8),
    /// This many bytes above the stack pointer at entry, the return address included on x86-64. Valid only at a
    /// site with `at_entry`, or right after an `endbr64`.
    Stack(u16),
}

/// How much was moved, and where that is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Moved {
    /// The 32-bit signed return value, if positive.
    Return32,
    /// The 64-bit signed return value, if positive.
    Return64,
    /// When the 32-bit return value is 1: the `size_t` that this argument points to.
    OutParam(
        /// Which argument holds the pointer.
        Slot,
    ),
    /// The 64-bit word at this many bytes above the stack pointer as it was at entry (Go's stack convention).
    ReturnStack(
        /// Offset in bytes.
        u16,
    ),
    /// All of the length argument.
    Length,
    /// Nothing is moved: the function carries no payload.
    Nothing,
}

/// What a length argument counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Unit {
    /// Bytes.
    Byte,
    /// Bits (the AES-GCM kernels of aarch64).
    Bit,
    /// Blocks of 16 bytes (AES counter mode).
    AesBlock,
}

/// When the bytes in the buffer are the plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum When {
    /// From entry on. Functions of the SSL kind do not change the buffer, so it may be read at return, when the
    /// count is known; AEAD functions may work in place, so there it must be read at entry.
    AtEntry,
    /// Only at return.
    AtReturn,
}

/// What tells one connection and direction from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Identity {
    /// The pointer itself.
    Pointer,
    /// The first this many bytes it points to (the structure is on the stack, so the address says nothing).
    Bytes(
        /// How many.
        u16,
    ),
}

/// What a function's arguments mean: enough for one BPF program to serve every function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Layout {
    /// The calling convention.
    pub abi: Abi,
    /// The `SSL*`, session, descriptor, `*Conn`, or AEAD key.
    pub object: Slot,
    /// What identifies the object.
    pub identity: Identity,
    /// The plaintext's pointer (for [`Role::AeadCounter`] the input's). For [`Role::SetFd`] the descriptor.
    pub buffer: Slot,
    /// The length offered or the room available.
    pub length: Slot,
    /// What `length` counts.
    pub length_unit: Unit,
    /// How much was moved.
    pub moved: Moved,
    /// When the buffer holds plaintext.
    pub when: When,
    /// AEAD only: the other buffer (ciphertext of a seal, ciphertext of an open, output of a counter call).
    pub other: Option<Slot>,
}

impl Layout {
    /// The same arguments for decryption: the plaintext is the other buffer, at return.
    pub(crate) fn opened(self) -> Layout {
        let (buffer, other) = (self.other.unwrap_or(self.buffer), Some(self.buffer));
        Layout { buffer, other, when: When::AtReturn, ..self }
    }

    /// `f(object, buffer, length, ...)` of the C convention.
    pub(crate) const fn c3(moved: Moved, when: When) -> Layout {
        Layout {
            abi: Abi::C,
            object: Slot::Arg(0),
            identity: Identity::Pointer,
            buffer: Slot::Arg(1),
            length: Slot::Arg(2),
            length_unit: Unit::Byte,
            moved,
            when,
            other: None,
        }
    }
}

/// A family that left traces in the file but gives nothing to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(Serialize, Deserialize))]
pub struct Miss {
    /// The family, when it is about one.
    pub family: Option<Library>,
    /// Why, in one sentence.
    pub reason: String,
}
