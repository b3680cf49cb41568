//! tulle-proxy: the sidecar's command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tulle_proxy::control::identity_file::IdentityFile;
use tulle_proxy::control::log::{Level, Log};
use tulle_proxy::control::{Options, run};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Read by jemalloc at start: few arenas (one a worker would hold on to freed memory), pages given back within a second,
/// no thread of its own.
#[allow(non_upper_case_globals)]
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static malloc_conf: &[u8] =
    b"narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0,background_thread:false,tcache_max:8192\0";

/// Gives freed pages back to the system. Without a thread of its own jemalloc does so only while it is being called,
/// so an idle process would keep what its start-up needed.
fn give_memory_back() {
    const ALL_ARENAS: &std::ffi::CStr = c"arena.4096.decay";
    // SAFETY: the name is a valid C string; this control takes and returns no value.
    let _unsupported = unsafe {
        tikv_jemalloc_sys::mallctl(
            ALL_ARENAS.as_ptr(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            std::ptr::null_mut(),
            0,
        )
    };
}

/// A service mesh sidecar, configured by Envoy's xDS v3.
#[derive(Parser)]
#[command(name = "tulle-proxy", version)]
struct Arguments {
    /// An Envoy v3 bootstrap, YAML or JSON.
    #[arg(short = 'c', long = "config")]
    config: PathBuf,
    /// Where this process gets its identity: join address, token file, trust anchor.
    #[arg(long)]
    identity: Option<PathBuf>,
    /// Worker threads.
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    #[arg(long, value_enum, default_value_t = Level::Info)]
    log_level: Level,
    /// Serves nothing: says of each call in this file (a line of JSON each) what the access rules decide.
    #[arg(long)]
    judge: Option<PathBuf>,
    /// How long requests in flight may go on after SIGTERM, in seconds.
    #[arg(long, default_value_t = 10)]
    drain_time_s: u64,
}

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("tulle-proxy: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> Result<ExitCode, String> {
    let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()));
    let bootstrap = read(&arguments.config)?;
    let loaded = tulle_xds::bootstrap::load(&bootstrap);
    let loaded = loaded.map_err(|e| format!("{}: {e}", arguments.config.display()))?;
    if let Some(calls) = &arguments.judge {
        print!("{}", tulle_proxy::judge::judge(&loaded, &read(calls)?)?);
        return Ok(ExitCode::SUCCESS);
    }
    let identity = match &arguments.identity {
        None => None,
        Some(path) => Some(IdentityFile::parse(&read(path)?).map_err(|e| format!("{}: {e}", path.display()))?),
    };
    let options = Options {
        loaded,
        identity,
        concurrency: arguments.concurrency.max(1),
        drain: Duration::from_secs(arguments.drain_time_s),
        log: Log::new(arguments.log_level),
        idle: give_memory_back,
    };
    run(options).map_err(|e| e.to_string())
}
