//! Watches memory for the overload manager, and lets its actions begin and end.

use std::sync::Arc;

use tulle_config::overload::Monitor;
use tulle_policy::overload::ActionKind;

use super::log::{Level, Log};
use crate::worker::overload::Overload;

/// Looks at resources as often as configured, for as long as the process runs; `shrink` gives freed memory back.
pub async fn watch(overload: &Arc<Overload>, log: &Log, shrink: fn()) {
    let manager = &overload.manager;
    if manager.monitors.is_empty() {
        return std::future::pending().await;
    }
    let mut ticks = tokio::time::interval(manager.refresh);
    let mut states = vec![0.0; manager.actions.len()];
    loop {
        ticks.tick().await;
        let pressures: Vec<f64> = manager.monitors.iter().map(|monitor| pressure(*monitor).unwrap_or(0.0)).collect();
        for (action, before) in manager.actions.iter().zip(&mut states) {
            let state = action.state(&pressures);
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
                log.say(Level::Warn, || format!("overload: pressures {pressures:.2?}: {:?} {state:.2}", action.kind));
            }
        }
    }
}

/// How much of a resource is used, from 0 to 1 and beyond; `None` when the system does not tell.
fn pressure(monitor: Monitor) -> Option<f64> {
    match monitor {
        Monitor::Heap(most) => Some(memory_in_use()? as f64 / most as f64),
        Monitor::Cgroup(most) => {
            let (used, limit) = memory_of_group()?;
            let most = most.into_iter().chain(limit).min()?;
            Some(used as f64 / most.max(1) as f64)
        }
    }
}

/// What the control group of this process uses and may use (cgroups(7), version 2, else version 1), in bytes.
fn memory_of_group() -> Option<(u64, Option<u64>)> {
    const FILES: [(&str, &str); 2] = [
        ("/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.max"),
        ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes"),
    ];
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    // Without a limit the file says `max`.
    FILES.iter().find_map(|(used, limit)| Some((number(used)?, number(limit))))
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
