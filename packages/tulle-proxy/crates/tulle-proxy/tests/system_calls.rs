//! What one request costs a worker in system calls and in instructions, counted and not timed.
//!
//! A worker as it runs in the proxy, with metrics, access log and authorization on, takes one request after another over kept
//! connections while its thread is traced. Timers that happen to fire cost more now and then, so most requests are looked at,
//! not every one.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

#[path = "common/callgrind.rs"]
mod callgrind;
mod common;
#[path = "common/instructions.rs"]
mod instructions;
#[path = "common/steady.rs"]
mod steady;
#[path = "common/tracer.rs"]
mod tracer;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Lines, Read};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::Proxy;
use steady::{Caller, application, featured};
use tracer::Tracer;

/// Requests before anything is counted.
const WARM_UP: usize = 300;

/// The proxy in a process of its own, run by [`the_traced_process`].
struct Traced {
    child: Child,
    worker: i32,
    caller: Caller,
    _stdin: ChildStdin,
    _lines: Lines<BufReader<ChildStdout>>,
    log: std::path::PathBuf,
}

impl Drop for Traced {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
        let _removed = std::fs::remove_file(&self.log);
    }
}

impl Traced {
    fn start() -> Traced {
        let log = std::env::temp_dir().join(format!("tulle-system-calls-{}.log", std::process::id()));
        let bootstrap = featured(application(), &log);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "the_traced_process"])
            .env("TULLE_TRACED", bootstrap)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address: SocketAddr = lines
            .find_map(|line| Some(line.unwrap().split_once("listening on ")?.1.parse().unwrap()))
            .expect("the process tells its address");
        let mut caller = Caller::connect(address);
        (0..WARM_UP).for_each(|_| caller.ask());
        let worker = worker_of(child.id());
        Traced { child, worker, caller, _stdin: stdin, _lines: lines, log }
    }

    /// The calls before and after each of `requests` requests, by number.
    fn measure(&mut self, requests: usize) -> Vec<(BTreeMap<u64, u64>, BTreeMap<u64, u64>)> {
        let tracer = Tracer::attach(self.child.id(), self.worker);
        // The first leads into the measured state.
        self.caller.ask();
        tracer.wait_until_idle();
        let found = (0..requests)
            .map(|_| {
                let before = tracer.by_number();
                self.caller.ask();
                tracer.wait_until_idle();
                (before, tracer.by_number())
            })
            .collect();
        let caller = &mut self.caller;
        tracer.detach(|| caller.ask());
        found
    }
}

/// The worker's thread.
fn worker_of(process: u32) -> i32 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let named = |path: &std::path::Path| std::fs::read_to_string(path.join("comm")).unwrap().trim() == "worker-0";
    let found = threads.map(|thread| thread.unwrap().path()).find(|path| named(path)).expect("a worker");
    found.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
#[ignore = "run by the other tests, as a process of its own"]
fn the_traced_process() {
    let bootstrap = std::env::var("TULLE_TRACED").expect("run by the other tests");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let proxy = runtime.block_on(Proxy::start(&bootstrap));
    println!("listening on {}", proxy.address());
    // Until the test that started it lets go.
    let _ended = std::io::stdin().read(&mut [0]);
}

#[test]
fn a_request_takes_six_system_calls() {
    let measured = Traced::start().measure(40);
    let differences: Vec<BTreeMap<i64, u64>> =
        measured.iter().map(|(before, after)| difference(before, after)).collect();
    // Wait, receive the request, send it on; wait, receive the answer, send it back.
    let wanted = BTreeMap::from([(libc::SYS_epoll_wait, 2), (libc::SYS_recvfrom, 2), (libc::SYS_sendto, 2)]);
    let exact = differences.iter().filter(|found| **found == wanted).count();
    assert!(exact * 4 >= differences.len() * 3, "{exact} of {}: {differences:?}", differences.len());
}

fn difference(before: &BTreeMap<u64, u64>, after: &BTreeMap<u64, u64>) -> BTreeMap<i64, u64> {
    let grown = after.iter().map(|(number, count)| (*number as i64, count - before.get(number).unwrap_or(&0)));
    grown.filter(|(_, count)| *count > 0).collect()
}
