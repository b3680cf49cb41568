//! Tells the program what built it, for figures that compare only within one build.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let compiler = std::env::var_os("RUSTC").expect("cargo says which compiler");
    let version = Command::new(compiler).arg("--version").output().expect("the compiler tells its version").stdout;
    let level = std::env::var("OPT_LEVEL").expect("cargo says how far to optimize");
    println!("cargo:rustc-env=TULLE_BUILD={}, level {level}", String::from_utf8_lossy(&version).trim());
}
