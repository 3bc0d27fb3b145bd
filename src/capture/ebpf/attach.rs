//! Hooks the images of watched processes: which link for which process, set when, taken away when.
//!
//! Runs on a thread of its own, because setting links takes milliseconds and the ring must be read meanwhile. Two scopes:
//! a link of one process for files that others use too (an unwatched process then pays nothing), and one link for
//! everybody for programs that only agents run. A process's link survives its exec, and may be set before the library
//! is mapped; it does not cover its children, which get links of their own when they appear.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::detach::Detacher;
use super::image::{FileId, Hook, Image, Images, Pair};
use super::link::{Backend, Moment, Place};
use super::needs::{self, Program};
use crate::proc;

/// When the maps of a process are looked at again after its exec, in milliseconds; afterwards every [`LATER`].
const RESCANS: &[u64] = &[2, 5, 10, 20, 40, 80, 160, 320, 640, 1280];
const LATER: Duration = Duration::from_secs(2);
/// Programs that only agents run, and that none runs now, which stay hooked.
const MOST_IDLE: usize = 32;
/// Libraries hooked ahead in new processes.
const MOST_LIKELY: usize = 4;
/// After a fork probes are set quickly for this long, by setting one this often.
const WARM_FOR: Duration = Duration::from_secs(1);
const WARM_EVERY: Duration = Duration::from_millis(8);

/// Something that the hooks have to follow.
#[derive(Debug)]
pub enum Order {
    /// The process has a new image (or is new to us).
    Exec(u32),
    /// A process was forked.
    Fork {
        /// The parent.
        parent: u32,
        /// The child.
        child: u32,
        /// It runs in its parent's memory until it calls exec (vfork): its own image comes then.
        shares_memory: bool,
    },
    /// The process mapped something executable.
    Map(u32),
    /// The process ended.
    Exit(u32),
    /// Hooks for a process that will exec these programs; answers when they are set.
    Ahead {
        /// The process.
        pid: u32,
        /// The programs that it is going to run, one after the other.
        programs: Vec<PathBuf>,
        /// Told when done.
        done: SyncSender<()>,
    },
}

/// A pair of loaded programs, by descriptor.
#[derive(Debug)]
pub struct ProgramPair {
    /// At entry.
    pub enter: OwnedFd,
    /// At return.
    pub leave: OwnedFd,
}

/// The loaded programs.
#[derive(Debug)]
pub struct Programs {
    /// How they are attached.
    pub backend: Backend,
    /// For the C convention.
    pub c: ProgramPair,
    /// For Go.
    pub go: ProgramPair,
    /// For AEAD functions that take or begin a record.
    pub aead: ProgramPair,
    /// For those that end it.
    pub aead_step: ProgramPair,
}

impl Programs {
    fn of(&self, pair: Pair) -> &ProgramPair {
        match pair {
            Pair::C => &self.c,
            Pair::Go => &self.go,
            Pair::Aead => &self.aead,
            Pair::AeadStep => &self.aead_step,
        }
    }
}

/// One hooked function of one image: what a site number means.
#[derive(Clone, Debug)]
pub struct Site {
    /// The library's name.
    pub library: Arc<str>,
    /// Carries payload.
    pub row: usize,
}

/// One image in one or more processes.
#[derive(Clone, Debug)]
pub struct Row {
    /// The first process that it was found in.
    pub pid: u32,
    /// The image.
    pub image: Arc<Image>,
    /// Its site numbers; empty when not hooked.
    pub sites: std::ops::Range<u32>,
    /// Why it could not be hooked.
    pub refused: Option<String>,
    /// How many processes have it now.
    pub users: usize,
}

/// What the hooks' thread tells the others.
#[derive(Default, Debug)]
pub struct Board {
    /// By site number.
    pub sites: Vec<Site>,
    /// Every image with TLS, hooked or refused.
    pub rows: Vec<Row>,
}

/// The board, shared.
pub type SharedBoard = Arc<Mutex<Board>>;

/// Reads or writes the board; a poisoned one is used as it is, every write leaves it whole.
pub fn board(shared: &SharedBoard) -> std::sync::MutexGuard<'_, Board> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread that sets and takes away hooks.
pub struct Attacher {
    orders: Sender<Order>,
    thread: JoinHandle<()>,
}

impl Attacher {
    /// Starts the thread.
    pub fn start(programs: Programs, shared: SharedBoard, strict: bool) -> io::Result<Attacher> {
        let (orders, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("heron-attach".to_owned())
            .spawn(move || Hooks::new(programs, shared, strict).run(&inbox))?;
        Ok(Attacher { orders, thread })
    }

    /// Where orders go.
    pub fn orders(&self) -> Sender<Order> {
        self.orders.clone()
    }

    /// Takes all hooks away and waits for it. Every clone of the sender must be gone.
    pub fn stop(self) {
        drop(self.orders);
        if self.thread.join().is_err() {
            tracing::error!("the thread that sets hooks panicked");
        }
    }
}

struct Links {
    links: Vec<OwnedFd>,
    row: usize,
}

#[derive(Default)]
struct Watched {
    /// Links of this process alone.
    own: HashMap<FileId, Links>,
    /// Images looked at, hooked or not.
    seen: HashSet<FileId>,
    /// Inodes of the maps seen at the last scan: nothing new, nothing to do.
    inodes: HashSet<u64>,
    scans: usize,
    born: Option<Instant>,
}

impl Watched {
    fn due(&self) -> Option<Instant> {
        let born = self.born?;
        match RESCANS.get(self.scans) {
            Some(after) => Some(born + Duration::from_millis(*after)),
            None => {
                Some(born + LATER * u32::try_from(self.scans.saturating_sub(RESCANS.len()) + 1).unwrap_or(u32::MAX))
            }
        }
    }
}

struct Hooks {
    /// New images were stopped by the kernel side, and go on once they are hooked.
    strict: bool,
    programs: Programs,
    images: Images,
    shared: SharedBoard,
    processes: HashMap<u32, Watched>,
    /// Links for everybody, with the watched processes that use them.
    wide: HashMap<FileId, (Links, HashSet<u32>)>,
    /// Those of `wide` that no watched process uses now, oldest first: the agent's next run is seen from its first byte.
    idle: VecDeque<FileId>,
    /// Rows by image.
    rows: HashMap<FileId, usize>,
    /// Shared libraries that new processes are hooked in ahead: the system's, and what watched processes were seen to use.
    likely: Vec<Arc<Image>>,
    detacher: Detacher,
}

impl Hooks {
    fn new(programs: Programs, shared: SharedBoard, strict: bool) -> Hooks {
        Hooks {
            strict,
            programs,
            images: Images::default(),
            shared,
            processes: HashMap::new(),
            wide: HashMap::new(),
            idle: VecDeque::new(),
            rows: HashMap::new(),
            likely: Vec::new(),
            detacher: Detacher::default(),
        }
    }

    fn run(&mut self, inbox: &Receiver<Order>) {
        raise_priority();
        let mut warm_until = Instant::now();
        let mut last_set = Instant::now();
        loop {
            let due = self.processes.iter().filter_map(|(pid, watched)| Some((watched.due()?, *pid))).min();
            let now = Instant::now();
            let mut wait = due.map_or(LATER, |(at, _)| at.saturating_duration_since(now));
            if now < warm_until {
                wait = wait.min(WARM_EVERY);
            }
            match inbox.recv_timeout(wait) {
                Ok(order) => {
                    if matches!(order, Order::Fork { .. } | Order::Ahead { .. }) {
                        warm_until = Instant::now() + WARM_FOR;
                        last_set = Instant::now();
                    }
                    self.follow(order);
                }
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() < warm_until && last_set.elapsed() >= WARM_EVERY {
                self.keep_warm();
                last_set = Instant::now();
            }
            if let Some((at, pid)) = due
                && at <= Instant::now()
            {
                self.rescan(pid);
            }
        }
    }

    fn follow(&mut self, order: Order) {
        match order {
            Order::Exec(pid) => {
                self.new_image(pid);
                if self.strict {
                    go_on(pid);
                }
            }
            Order::Fork { parent, child, shares_memory } => self.inherit(parent, child, shares_memory),
            Order::Map(pid) => self.scan(pid),
            Order::Exit(pid) => self.forget(pid),
            Order::Ahead { pid, programs, done } => {
                let runs_already = programs.is_empty();
                for program in programs {
                    self.ahead(pid, &program);
                }
                for library in needs::usual_libraries(&mut self.images, pid) {
                    self.likely(&library);
                }
                self.hook_likely(pid);
                if runs_already {
                    // What it maps now is hooked before it counts as watched.
                    self.scan(pid);
                }
                let _ = done.send(()); // nobody waits any more: nothing to tell
            }
        }
    }

    fn ahead(&mut self, pid: u32, path: &std::path::Path) {
        if let Ok(image) = self.images.open(&proc::inside(pid, path), path) {
            self.hook_program(pid, &image);
        }
    }

    /// What the processes of this tree use is hooked in their children ahead: a child that starts `curl` is faster than
    /// the look into its maps.
    fn likely(&mut self, image: &Arc<Image>) {
        if !image.program && self.likely.len() < MOST_LIKELY && !self.likely.iter().any(|known| known.id == image.id) {
            self.likely.push(Arc::clone(image));
        }
    }

    fn hook_likely(&mut self, pid: u32) {
        for image in self.likely.clone() {
            self.hook(pid, &image);
        }
    }

    fn new_image(&mut self, pid: u32) {
        let watched = self.processes.entry(pid).or_default();
        watched.scans = 0;
        watched.inodes.clear();
        watched.born = Some(Instant::now());
        let Some(path) = proc::exe(pid) else {
            return;
        };
        if let Ok(image) = self.images.open(&PathBuf::from(format!("/proc/{pid}/exe")), &path) {
            self.hook_program(pid, &image);
        }
    }

    fn hook_program(&mut self, pid: u32, image: &Arc<Image>) {
        let library_path = proc::environment(pid, "LD_LIBRARY_PATH");
        let program = Program { pid, image, library_path };
        for image in needs::hookable(&mut self.images, &program) {
            self.hook(pid, &image);
        }
        self.note_refusal(pid, image);
    }

    /// The kernel sets the first probe in a while only after a grace period of some 10 ms, and the next ones in 0.2 ms. A
    /// tree that forks is likely to fork again, and its child may be quick: a probe in heron itself keeps the way open.
    fn keep_warm(&mut self) {
        let Some(image) = self.likely.first() else {
            return;
        };
        let place = image.hooks.first().map(|hook| Place { offset: hook.entry, cookie: 0 });
        let own = Some(std::process::id());
        if let Some(place) = place
            && let Ok(links) = self.programs.backend.uprobes(
                self.programs.c.enter.as_fd(),
                image.file.as_fd(),
                &[place],
                Moment::Entry,
                own,
            )
        {
            self.detacher.detach(links);
        }
    }

    /// Looks for images mapped since the last look.
    fn scan(&mut self, pid: u32) {
        let mapped = proc::images(pid);
        let Some(watched) = self.processes.get_mut(&pid) else {
            return;
        };
        let fresh: Vec<_> = mapped.into_iter().filter(|image| watched.inodes.insert(image.inode)).collect();
        for found in fresh {
            let Ok(image) = self.images.open(&found.via, &found.path) else {
                continue; // the process ended, or unmapped it
            };
            if image.hooks.is_empty() {
                self.note_refusal(pid, &image);
            } else {
                self.hook(pid, &image);
            }
        }
    }

    fn rescan(&mut self, pid: u32) {
        if let Some(watched) = self.processes.get_mut(&pid) {
            watched.scans += 1;
        }
        self.scan(pid);
    }

    fn inherit(&mut self, parent: u32, child: u32, shares_memory: bool) {
        if !proc::is_alive(child) {
            return;
        }
        let of = self.processes.entry(parent).or_default();
        let rows: Vec<usize> = of.own.values().filter(|_| !shares_memory).map(|links| links.row).collect();
        let inodes = of.inodes.clone();
        let images: Vec<Arc<Image>> = {
            let board = board(&self.shared);
            rows.iter().filter_map(|row| board.rows.get(*row)).map(|row| Arc::clone(&row.image)).collect()
        };
        let watched = self.processes.entry(child).or_default();
        watched.born = Some(Instant::now());
        watched.inodes = inodes;
        let wide: Vec<FileId> =
            self.wide.iter().filter(|(_, (_, users))| users.contains(&parent)).map(|(id, _)| *id).collect();
        for id in wide {
            if let Some((_, users)) = self.wide.get_mut(&id) {
                users.insert(child);
            }
        }
        for image in images {
            self.hook(child, &image);
        }
        self.hook_likely(child);
    }

    fn hook(&mut self, pid: u32, image: &Arc<Image>) {
        let watched = self.processes.entry(pid).or_default();
        if !watched.seen.insert(image.id) {
            return;
        }
        if !image.is_unchanged() {
            self.refuse(pid, image, "the file was changed after it was analysed".to_owned());
            return;
        }
        if let Some((links, users)) = self.wide.get_mut(&image.id) {
            users.insert(pid);
            self.idle.retain(|id| *id != image.id);
            let row = links.row;
            self.count_users(row, 1);
            return;
        }
        let is_wide = only_agents_run(image);
        let row = self.row(pid, image);
        match self.set(image, row, if is_wide { None } else { Some(pid) }) {
            Ok(links) => {
                let links = Links { links, row };
                if is_wide {
                    self.wide.insert(image.id, (links, HashSet::from([pid])));
                } else if let Some(watched) = self.processes.get_mut(&pid) {
                    watched.own.insert(image.id, links);
                }
                self.count_users(row, 1);
                self.likely(image);
                tracing::debug!(pid, path = %image.path.display(), library = image.library, "hooked");
            }
            // The process ended meanwhile: nothing to hook.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
            Err(error) => self.refuse(pid, image, format!("the kernel refused the probes: {error}")),
        }
    }

    fn set(&self, image: &Image, row: usize, pid: Option<u32>) -> io::Result<Vec<OwnedFd>> {
        let first = board(&self.shared).rows.get(row).map_or(0, |row| row.sites.start);
        let mut links = Vec::new();
        // Where a record ends before where it begins: what was begun without its end would be told late or not at all.
        for pair in [Pair::C, Pair::Go, Pair::AeadStep, Pair::Aead] {
            let programs = self.programs.of(pair);
            let hooks = || (first..).zip(&image.hooks).filter(|(_, hook)| hook.pair == pair);
            let cookie = |site: u32, hook: &Hook| hook.cookie | u64::from(site) << 32;
            let place = |site, hook: &Hook, offset| Place { offset, cookie: cookie(site, hook) };
            let entries = hooks().map(|(site, hook)| place(site, hook, hook.entry));
            let leaves = hooks().flat_map(|(site, hook)| hook.leaves.iter().map(move |at| place(site, hook, *at)));
            // Returns first: an entry without its return would leave a frame behind.
            let moment = if pair == Pair::Go { Moment::Entry } else { Moment::Return };
            let ways =
                [(&programs.leave, once_each(leaves), moment), (&programs.enter, once_each(entries), Moment::Entry)];
            for (program, places, moment) in ways {
                if !places.is_empty() {
                    let file = image.file.as_fd();
                    links.extend(self.programs.backend.uprobes(program.as_fd(), file, &places, moment, pid)?);
                }
            }
        }
        Ok(links)
    }

    fn row(&mut self, pid: u32, image: &Arc<Image>) -> usize {
        if let Some(row) = self.rows.get(&image.id) {
            return *row;
        }
        let mut board = board(&self.shared);
        let row = board.rows.len();
        let start = u32::try_from(board.sites.len()).unwrap_or(u32::MAX);
        let library: Arc<str> = Arc::from(image.library.as_str());
        board.sites.extend(image.hooks.iter().map(|_| Site { library: Arc::clone(&library), row }));
        let end = u32::try_from(board.sites.len()).unwrap_or(u32::MAX);
        board.rows.push(Row { pid, image: Arc::clone(image), sites: start..end, refused: None, users: 0 });
        self.rows.insert(image.id, row);
        row
    }

    /// An image that has TLS which cannot be hooked is shown, with the reason.
    fn note_refusal(&mut self, pid: u32, image: &Arc<Image>) {
        if image.hooks.is_empty() && !image.reason.is_empty() && !self.rows.contains_key(&image.id) {
            self.refuse(pid, image, image.reason.clone());
        }
    }

    fn refuse(&mut self, pid: u32, image: &Arc<Image>, why: String) {
        let row = self.row(pid, image);
        if let Some(row) = board(&self.shared).rows.get_mut(row) {
            row.refused = Some(why);
        }
    }

    fn count_users(&self, row: usize, by: isize) {
        if let Some(row) = board(&self.shared).rows.get_mut(row) {
            row.users = row.users.saturating_add_signed(by);
        }
    }

    fn forget(&mut self, pid: u32) {
        let Some(watched) = self.processes.remove(&pid) else {
            return;
        };
        for (_, links) in watched.own {
            self.count_users(links.row, -1);
            self.detacher.detach(links.links);
        }
        for (id, (links, users)) in &mut self.wide {
            if users.remove(&pid) {
                if users.is_empty() {
                    self.idle.push_back(*id);
                }
                if let Some(row) = board(&self.shared).rows.get_mut(links.row) {
                    row.users = row.users.saturating_sub(1);
                }
            }
        }
        let excess = self.idle.len().saturating_sub(MOST_IDLE);
        for id in self.idle.drain(..excess) {
            if let Some((links, _)) = self.wide.remove(&id) {
                self.detacher.detach(links.links);
            }
        }
    }
}

impl Drop for Hooks {
    fn drop(&mut self) {
        let own = self.processes.drain().flat_map(|(_, watched)| watched.own.into_values());
        let wide = self.wide.drain().map(|(_, (links, _))| links);
        for links in own.chain(wide) {
            self.detacher.detach(links.links);
        }
    }
}

/// Lets a process that was stopped at its exec go on.
fn go_on(pid: u32) {
    use nix::sys::signal::{Signal, kill};
    let Ok(pid) = i32::try_from(pid) else {
        return;
    };
    if let Err(error) = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGCONT) {
        tracing::debug!(%error, pid, "a stopped process had ended");
    }
}

/// Hooks are late when their thread waits for a processor. Without the privilege it stays as it is.
#[allow(unsafe_code)]
pub(super) fn raise_priority() {
    // SAFETY: changes the calling thread's nice value, and nothing else.
    let raised = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, -10) };
    if raised != 0 {
        tracing::debug!("the priority of a capture thread could not be raised");
    }
}

/// Two names of one function are one place.
fn once_each(places: impl Iterator<Item = Place>) -> Vec<Place> {
    let mut places: Vec<Place> = places.collect();
    places.sort_by_key(|place| place.offset);
    places.dedup_by_key(|place| place.offset);
    places
}

/// Directories of the distribution: programs there are everybody's.
const EVERYBODYS: &[&str] = &["/usr", "/bin", "/sbin", "/lib", "/lib64", "/snap", "/nix"];

/// A program with TLS inside, which is no interpreter and no tool of the system: only agents run it.
fn only_agents_run(image: &Image) -> bool {
    let is_package = image.path.components().any(|part| part.as_os_str() == "node_modules");
    let is_everybodys = EVERYBODYS.iter().any(|dir| image.path.starts_with(dir)) && !is_package;
    image.program && !is_everybodys && !needs::is_interpreter(&image.path)
}
