//! The allocator, and what is given back to the system once it is no longer needed: freed memory, and the pages of the
//! program that only start-up runs through.

use std::ffi::{CStr, CString, c_int, c_uint, c_void};
use std::ptr;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc at start: one arena, since a worker's objects stay with its thread's cache; pages that were freed are
/// kept for ten seconds, so that a busy process does not give back what it takes again at once; small thread caches.
#[allow(non_upper_case_globals)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static malloc_conf: &[u8] =
    b"narenas:1,dirty_decay_ms:10000,muzzy_decay_ms:0,background_thread:false,tcache_max:8192\0";

/// Asks jemalloc to do something that takes and returns no value.
fn control(name: &CStr) {
    // SAFETY: the name is a valid C string, and this control has neither an old nor a new value.
    let _unsupported =
        unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0) };
}

/// Sets a value of jemalloc's; says whether it could.
fn set<T>(name: &CStr, mut value: T) -> bool {
    let new = ptr::from_mut(&mut value).cast();
    // SAFETY: the name is a valid C string, and `new` points to a value of the size that is given with it.
    unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), ptr::null_mut(), ptr::null_mut(), new, size_of::<T>()) == 0 }
}

/// A value of jemalloc's.
fn get<T: Default>(name: &CStr) -> Option<T> {
    let (mut value, mut size) = (T::default(), size_of::<T>());
    let old = ptr::from_mut(&mut value).cast();
    // SAFETY: the name is a valid C string, and `old` points to a value of the size that is given with it.
    let failed = unsafe { tikv_jemalloc_sys::mallctl(name.as_ptr(), old, &mut size, ptr::null_mut(), 0) };
    (failed == 0 && size == size_of::<T>()).then_some(value)
}

/// The name of something of one arena.
fn named(group: &str, arena: c_uint, what: &str) -> Option<CString> {
    CString::new(format!("{group}.{arena}.{what}")).ok()
}

/// An arena for what lives shortly. Where short-lived values lie between those that stay, pages remain of which little is
/// used and which cannot be given back: a third of the memory of a large configuration.
///
/// While there is one, this thread allocates without a cache, since that would mix the two again.
pub struct Apart {
    /// The thread's own, and the other one; `None` where there cannot be one.
    arenas: Option<(c_uint, c_uint)>,
}

impl Apart {
    pub fn begin() -> Apart {
        let arenas = || Some((get(c"thread.arena")?, get(c"arenas.create")?));
        let arenas = arenas().filter(|_| set(c"thread.tcache.enabled", false));
        Apart { arenas }
    }

    /// Runs `make`, whose memory comes from the other arena, be it kept or not.
    pub fn run<T>(&self, make: impl FnOnce() -> T) -> T {
        let Some((own, other)) = self.arenas else { return make() };
        let _apart = set(c"thread.arena", other);
        let made = make();
        let _back = set(c"thread.arena", own);
        made
    }
}

impl Drop for Apart {
    /// Ends the other arena with its bookkeeping, which is a hundred bytes for each run of pages that it ever had, unless
    /// something of it is still used.
    fn drop(&mut self) {
        let Some((_, other)) = self.arenas else { return };
        let _cached = set(c"thread.tcache.enabled", true);
        let _counted_anew = set(c"epoch", 1_u64);
        let used: Option<usize> = named("stats.arenas", other, "pactive").and_then(|name| get(&name));
        let end = if used == Some(0) { "destroy" } else { "purge" };
        if let Some(name) = named("arena", other, end) {
            control(&name);
        }
        control(c"arena.4096.purge");
    }
}

/// Gives freed pages back that have lain idle. Without a thread of its own jemalloc does so only while it is being called,
/// so an idle process would keep what it once needed.
pub fn give_back_idle() {
    control(c"arena.4096.decay");
}

/// After start-up, which needs much that is never needed again: what this thread's cache holds, every freed page, and the
/// pages of program text and constants that were mapped. The text that is really in use comes back page by page from the
/// system's cache, without a read; its share of the whole is small.
pub fn give_back_start_up() {
    control(c"thread.tcache.flush");
    control(c"arena.4096.purge");
    // SAFETY: the callback has the required signature and uses `info` only while it is called.
    unsafe { libc::dl_iterate_phdr(Some(drop_unwritable), ptr::null_mut()) };
}

/// Unmaps the pages of one object's segments that can never have been written to.
///
/// # Safety
/// To be called by `dl_iterate_phdr`.
unsafe extern "C" fn drop_unwritable(info: *mut libc::dl_phdr_info, _size: usize, _data: *mut c_void) -> c_int {
    // SAFETY: the C library passes a valid description with `dlpi_phnum` headers.
    let (info, headers) = unsafe {
        let info = &*info;
        (info, std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()))
    };
    // SAFETY: `sysconf` has no preconditions.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_W == 0) {
        let start = info.dlpi_addr as usize + header.p_vaddr as usize;
        let (first, end) = (start & !(page - 1), start + header.p_memsz as usize);
        // SAFETY: the range is that of a private mapping of a file, never written to (relocated constants lie in writable
        // segments), so a dropped page is read again, unchanged, from the file.
        unsafe { libc::madvise(ptr::without_provenance_mut(first), end - first, libc::MADV_DONTNEED) };
    }
    0
}
