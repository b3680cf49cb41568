//! What one request costs each sidecar of a pair in instructions, all its threads together: HTTP/1.1 outside, HTTP/2 between, with
//! metrics, access log and authorization on, without TLS (whose instructions depend on the processor).
//!
//! The figures are recorded for one compiler and one level of optimization, since both change them. Timers fire by the wall
//! clock, so the least of several windows counts.

use std::net::SocketAddr;

use super::callgrind::{Counted, obey};
use super::common::{HTTP2, Proxy};
use super::steady::{Caller, application, featured};

/// What built this: only its own figures compare.
const BUILD: &str = env!("TULLE_BUILD");
/// Of the caller's sidecar and of the application's, by build.
const RECORDED: [(&str, u64, u64); 1] = [("rustc 1.95.0 (59807616e 2026-04-14), level 3", 37_900, 37_492)];
const TOLERATED_PERCENT: u64 = 1;
/// Requests before anything is counted, so that tables have grown and headers are known to both ends.
const WARM_UP: usize = 300;
const WINDOWS: usize = 5;
const REQUESTS: u64 = 100;

#[test]
#[ignore = "run by the other tests, as a process of its own"]
fn the_counted_process() {
    let bootstrap = std::env::var("TULLE_COUNTED").expect("run by the other tests");
    let _proxy = started(&bootstrap);
    obey();
}

fn started(bootstrap: &str) -> Proxy {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let proxy = runtime.block_on(Proxy::start(bootstrap));
    println!("listening on {}", proxy.address());
    proxy
}

/// A log that is removed with its handle.
struct Log(std::path::PathBuf);

impl Log {
    fn new(name: &str) -> Log {
        Log(std::env::temp_dir().join(format!("tulle-instructions-{name}-{}.log", std::process::id())))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _removed = std::fs::remove_file(&self.0);
    }
}

#[test]
fn the_callers_sidecar_executes_what_is_recorded() {
    let (own, others) = (Log::new("caller"), Log::new("callers-peer"));
    let peer = started(&featured(application(), &others.0));
    let bootstrap = over_http2(&featured(peer.address(), &own.0));
    let recorded = RECORDED.iter().find(|(build, ..)| *build == BUILD).map(|(_, caller, _)| *caller);
    check("the caller's sidecar", recorded, &bootstrap, |counted| counted);
}

#[test]
fn the_applications_sidecar_executes_what_is_recorded() {
    let (own, others) = (Log::new("application"), Log::new("applications-peer"));
    let bootstrap = featured(application(), &own.0);
    let recorded = RECORDED.iter().find(|(build, ..)| *build == BUILD).map(|(.., application)| *application);
    let mut peer = None;
    check("the application's sidecar", recorded, &bootstrap, |counted| {
        let bootstrap = over_http2(&featured(counted, &others.0));
        peer.insert(started(&bootstrap)).address()
    });
}

/// The same with HTTP/2 to its cluster.
fn over_http2(bootstrap: &str) -> String {
    let changed = bootstrap.replacen("type: STATIC", &format!("type: STATIC{HTTP2}"), 1);
    assert_ne!(changed, bootstrap);
    changed
}

/// `asked` tells where requests go, of where the counted process listens.
fn check(what: &str, recorded: Option<u64>, bootstrap: &str, asked: impl FnOnce(SocketAddr) -> SocketAddr) {
    let name = "instructions::the_counted_process";
    let Some(mut counted) = Counted::spawn(name, ("TULLE_COUNTED", bootstrap)) else {
        return eprintln!("{what}: there is no valgrind here, so its instructions are not counted");
    };
    let address = counted.told("listening on ").parse().unwrap();
    let mut caller = Caller::connect(asked(address));
    (0..WARM_UP).for_each(|_| caller.ask());
    counted.start();
    let mut window = || counted.count(|| (0..REQUESTS).for_each(|_| caller.ask()));
    window();
    let least = (0..WINDOWS).map(|_| window()).min().unwrap_or_default() / REQUESTS;
    let Some(recorded) = recorded else {
        return eprintln!("{what}: {least} instructions a request; no figure is recorded for {BUILD}");
    };
    let apart = least.abs_diff(recorded);
    assert!(
        apart * 100 <= recorded * TOLERATED_PERCENT,
        "{what}: {least} instructions a request where {recorded} are recorded: if that is meant, record it for {BUILD}"
    );
}
