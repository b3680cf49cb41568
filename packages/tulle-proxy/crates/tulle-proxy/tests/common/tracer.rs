//! Counts the system calls of one thread of a child process, exactly and without privileges, through ptrace(2).

use std::collections::BTreeMap;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

#[derive(Default)]
struct Counts {
    total: AtomicU64,
    by_number: Mutex<BTreeMap<u64, u64>>,
    over: AtomicBool,
}

/// A thread under observation.
pub struct Tracer {
    process: u32,
    thread: i32,
    counts: Arc<Counts>,
    tracing: JoinHandle<()>,
}

impl Tracer {
    /// Begins to count. The thread runs on, though slower.
    pub fn attach(process: u32, thread: i32) -> Tracer {
        let counts = Arc::<Counts>::default();
        let counting = counts.clone();
        // All requests must come from the thread that attached.
        let tracing = std::thread::spawn(move || {
            super::steady::apart();
            trace(thread, &counting);
        });
        Tracer { process, thread, counts, tracing }
    }

    /// Waits until the thread sleeps in the kernel, having nothing to do.
    pub fn wait_until_idle(&self) {
        let stat = format!("/proc/{}/task/{}/stat", self.process, self.thread);
        let mut seen = u64::MAX;
        loop {
            assert!(!self.tracing.is_finished(), "the thread cannot be traced: is ptrace(2) forbidden here?");
            let text = std::fs::read_to_string(&stat).unwrap();
            let sleeps = text.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'));
            let now = self.counts.total.load(Ordering::SeqCst);
            if sleeps && now == seen && now > 0 {
                return;
            }
            seen = if sleeps { now } else { u64::MAX };
            std::thread::yield_now();
        }
    }

    /// System calls so far, by number.
    pub fn by_number(&self) -> BTreeMap<u64, u64> {
        self.counts.by_number.lock().unwrap().clone()
    }

    /// Ends with the next thing that the thread does, for which `wake` must give it a reason.
    pub fn detach(self, wake: impl FnOnce()) {
        self.counts.over.store(true, Ordering::SeqCst);
        wake();
        self.tracing.join().unwrap();
    }
}

fn request(what: libc::c_uint, thread: i32, data: usize) -> libc::c_long {
    // SAFETY: none of the requests made here through this function reads or writes our memory.
    unsafe { libc::ptrace(what, thread, ptr::null_mut::<libc::c_void>(), data) }
}

/// Waits for the thread's next stop and says by which signal; `None` when it is gone.
fn stop(thread: i32) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is ours for the length of the call.
    let found = unsafe { libc::waitpid(thread, &raw mut status, libc::__WALL) };
    (found == thread && libc::WIFSTOPPED(status)).then(|| libc::WSTOPSIG(status))
}

fn trace(thread: i32, counts: &Counts) {
    let options = usize::try_from(libc::PTRACE_O_TRACESYSGOOD).unwrap();
    if request(libc::PTRACE_SEIZE, thread, options) != 0 || request(libc::PTRACE_INTERRUPT, thread, 0) != 0 {
        return;
    }
    const AT_CALL: i32 = libc::SIGTRAP | 0x80;
    while let Some(signal) = stop(thread) {
        if signal == AT_CALL {
            note_call(thread, counts);
        }
        if counts.over.load(Ordering::SeqCst) {
            request(libc::PTRACE_DETACH, thread, 0);
            return;
        }
        // A signal of its own reaches the thread; those of tracing do not.
        let own = if signal == libc::SIGTRAP || signal == AT_CALL { 0 } else { usize::try_from(signal).unwrap() };
        request(libc::PTRACE_SYSCALL, thread, own);
    }
}

fn note_call(thread: i32, counts: &Counts) {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    let size = size_of::<libc::ptrace_syscall_info>();
    // SAFETY: the kernel writes at most `size` bytes into `info`, for which zeros are valid too.
    let info = unsafe {
        libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, info.as_mut_ptr());
        info.assume_init()
    };
    if info.op == libc::PTRACE_SYSCALL_INFO_ENTRY {
        // SAFETY: `op` says which part of the union is filled.
        let number = unsafe { info.u.entry.nr };
        *counts.by_number.lock().unwrap().entry(number).or_default() += 1;
    }
    counts.total.fetch_add(1, Ordering::SeqCst);
}
