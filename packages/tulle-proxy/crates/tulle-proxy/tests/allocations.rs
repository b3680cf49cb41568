//! The data path of HTTP/1.1 in its steady state takes no memory: a worker as it runs in the proxy, with metrics, access log
//! and authorization on, under an allocator that counts.

mod common;
#[path = "common/steady.rs"]
mod steady;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use common::Proxy;
use steady::{Caller, apart, application, featured, is_apart};

struct Counting;

/// Calls of the allocator by threads of the proxy.
static CALLS: AtomicU64 = AtomicU64::new(0);

fn count() {
    if !is_apart() {
        CALLS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on unchanged to the system allocator; counting touches an atomic and a const-initialised
// thread local without a destructor, which allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's obligations are the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System` with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_request_in_the_steady_state_takes_no_memory() {
    apart();
    let log = std::env::temp_dir().join(format!("tulle-allocations-{}.log", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let proxy = runtime.block_on(Proxy::start(&featured(application(), &log)));
    let mut caller = Caller::connect(proxy.address());
    const REQUESTS: u64 = 1000;
    // Buffers reach their size, counters and the log are made; then nothing more is needed.
    (0..REQUESTS).for_each(|_| caller.ask());
    assert!(CALLS.load(Ordering::SeqCst) > 0, "the proxy's thread is not counted");
    // A request that the machine held up says so in a longer header, for which a buffer grows once more; and the test's
    // own main thread prints when it gets to it. What a request takes, every window has.
    let mut window = || {
        let before = CALLS.load(Ordering::SeqCst);
        (0..REQUESTS).for_each(|_| caller.ask());
        CALLS.load(Ordering::SeqCst) - before
    };
    let calls: Vec<u64> = (0..5).map(|_| window()).collect();
    std::fs::remove_file(&log).unwrap();
    assert!(calls.contains(&0), "{REQUESTS} requests at a time called the allocator {calls:?} times");
}
