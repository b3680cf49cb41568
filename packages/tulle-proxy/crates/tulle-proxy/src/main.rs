//! tulle-proxy: the sidecar's command line.

mod descriptors;
mod memory;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tulle_proxy::control::identity_file::IdentityFile;
use tulle_proxy::control::log::{Level, Log};
use tulle_proxy::control::{self, Options, run};
use tulle_xds::bootstrap::{self, Loaded};

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
    /// Where the last accepted configuration is kept (encrypted) for a start without a control plane; by default beside
    /// the identity.
    #[arg(long)]
    state: Option<PathBuf>,
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

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

fn load(path: &Path) -> Result<Loaded, String> {
    let wrong = |e| format!("{}: {e}", path.display());
    let apart = memory::Apart::begin();
    let unchecked = apart.run(|| bootstrap::read(&read(path)?).map_err(wrong))?;
    bootstrap::check(unchecked).map_err(wrong)
}

fn start(arguments: &Arguments) -> Result<ExitCode, String> {
    let loaded = load(&arguments.config)?;
    if let Some(calls) = &arguments.judge {
        print!("{}", tulle_proxy::judge::judge(&loaded, &read(calls)?)?);
        return Ok(ExitCode::SUCCESS);
    }
    let path = arguments.config.display();
    control::material::check_static(&loaded.bootstrap).map_err(|e| format!("{path}: {e}"))?;
    let identity = match &arguments.identity {
        None => None,
        Some(path) => Some(IdentityFile::parse(&read(path)?).map_err(|e| format!("{}: {e}", path.display()))?),
    };
    let state = arguments.state.clone().or_else(|| identity.as_ref().map(|file| file.state_dir.clone()));
    let options = Options {
        loaded,
        identity,
        state,
        concurrency: arguments.concurrency.max(1),
        descriptors: descriptors::raise(),
        drain: Duration::from_secs(arguments.drain_time_s),
        log: Log::new(arguments.log_level),
        started: memory::give_back_start_up,
        idle: memory::give_back_idle,
    };
    run(options).map_err(|e| e.to_string())
}
