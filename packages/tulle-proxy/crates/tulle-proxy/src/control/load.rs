//! Watches the process's memory for the overload manager, and lets its actions begin and end.

use std::sync::Arc;

use tulle_policy::overload::ActionKind;

use super::log::{Level, Log};
use crate::worker::overload::Overload;

/// Looks at memory as often as configured, for as long as the process runs; `shrink` gives freed memory back.
pub async fn watch(overload: &Arc<Overload>, log: &Log, shrink: fn()) {
    let manager = &overload.manager;
    let Some(most) = manager.max_heap else { return std::future::pending().await };
    let mut ticks = tokio::time::interval(manager.refresh);
    let mut states = vec![0.0; manager.actions.len()];
    loop {
        ticks.tick().await;
        let Some(used) = memory_in_use() else { continue };
        let pressure = used as f64 / most as f64;
        for (action, before) in manager.actions.iter().zip(&mut states) {
            let state = action.state(pressure);
            if action.kind == ActionKind::ShrinkHeap && state >= 1.0 {
                shrink();
            }
            let was = std::mem::replace(before, state);
            if was == state {
                continue;
            }
            overload.set(action.kind, state);
            // Only the beginning and the end of an action are news.
            if (was == 0.0) != (state == 0.0) {
                log.say(Level::Warn, || format!("overload: {used} bytes in use: {:?} {state:.2}", action.kind));
            }
        }
    }
}

/// Resident memory that is not of files (proc(5), `/proc/self/statm`), in bytes.
fn memory_in_use() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split(' ').skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    // SAFETY: `sysconf` has no preconditions.
    let page = u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096);
    Some(resident.saturating_sub(shared) * page)
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_in_use_grows_with_what_is_used() {
        let before = super::memory_in_use().unwrap();
        // Opaque, or the optimizer leaves the allocation out.
        let much = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = super::memory_in_use().unwrap();
        assert!(after >= before + (48 << 20), "{before} to {after} with {} bytes more", much.len());
    }
}
