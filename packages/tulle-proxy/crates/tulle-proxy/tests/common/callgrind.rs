//! Valgrind's callgrind as a counter: the instructions of a child process, all its threads, between two moments.
#![allow(dead_code, reason = "each test file uses a part")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// Callgrind's requests (`valgrind/callgrind.h`).
const DUMP: u64 = 0x4354_0000;
const ZERO: u64 = 0x4354_0001;
const START: u64 = 0x4354_0004;

/// Asks valgrind to do something: an idle sequence of instructions that it knows (`valgrind.h`, `amd64-linux`).
fn request(what: u64) {
    let arguments = [what, 0, 0, 0, 0, 0];
    // SAFETY: the rotations add up to a whole turn and the exchange is of a register with itself: to a processor this does
    // nothing. Valgrind reads the six words and writes its answer into `rdx`.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51", "xchg rbx, rbx",
            in("rax") arguments.as_ptr(), inlateout("rdx") 0u64 => _, options(nostack)
        );
    }
}

/// The child's part: does what the parent says, line by line, until it closes.
pub fn obey() {
    for line in std::io::stdin().lines() {
        match line.unwrap().as_str() {
            "start" => request(START),
            "zero" => request(ZERO),
            "dump" => request(DUMP),
            other => panic!("unknown: {other}"),
        }
        println!("done");
    }
}

/// Tells the folders of this process's children apart.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A child under callgrind. It ends with its parent's handle.
pub struct Counted {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    folder: PathBuf,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
        let _removed = std::fs::remove_dir_all(&self.folder);
    }
}

impl Counted {
    /// Runs the ignored test `name` of this program; `None` where there is no valgrind.
    pub fn spawn(name: &str, variable: (&str, &str)) -> Option<Counted> {
        let version = Command::new("valgrind").arg("--version").output();
        version.ok().filter(|output| output.status.success())?;
        let (process, number) = (std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(format!("tulle-callgrind-{process}-{number}"));
        std::fs::create_dir_all(&folder).unwrap();
        let mut child = Command::new("valgrind")
            .args(["--tool=callgrind", "--instr-atstart=no", "--quiet"])
            .arg(format!("--callgrind-out-file={}/out", folder.display()))
            .arg(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", name])
            .env(variable.0, variable.1)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Some(Counted { child, stdin, lines, folder })
    }

    /// The rest of the child's next line that has `mark`.
    pub fn told(&mut self, mark: &str) -> String {
        let rest = self.lines.find_map(|line| Some(line.unwrap().split_once(mark)?.1.to_owned()));
        rest.expect("the child says so before it ends")
    }

    /// From here on instructions are looked at, which makes the child some fifty times slower.
    pub fn start(&mut self) {
        self.say("start");
    }

    fn say(&mut self, word: &str) {
        writeln!(self.stdin, "{word}").unwrap();
        self.told("done");
    }

    /// What the child executes while `work` runs.
    pub fn count(&mut self, work: impl FnOnce()) -> u64 {
        self.say("zero");
        work();
        self.say("dump");
        let mut total = 0;
        for entry in std::fs::read_dir(&self.folder).unwrap() {
            let path = entry.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let of_part = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse::<u64>().ok());
            total += of_part.unwrap_or(0);
            std::fs::remove_file(&path).unwrap();
        }
        assert_ne!(total, 0, "callgrind wrote nothing to {}", self.folder.display());
        total
    }
}
