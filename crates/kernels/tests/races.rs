//! That the emulation of a GPU ends the process when accesses to the same memory are not ordered, and only then.

#![cfg(feature = "cuda-emulation")]
#![allow(clippy::unwrap_used)]

use std::ffi::c_int;
use std::process::{Command, Output};

// The library has the kernels.
use epitome_kernels as _;

const FAULT: &str = "EPITOME_EMULATED_FAULT";

/// What the emulation says of the faults of `cuda/emulation/faults.cpp`: of the first thirteen that nothing orders two accesses.
fn complaint(fault: usize) -> &'static str {
    match fault {
        0..13 | 15 => "nothing orders them",
        13 => "the target of a copy in flight was written",
        14 => "writes another value than another lane",
        16 | 17 => "writes before it has waited",
        _ => "never waits",
    }
}
const FAULTS: usize = 19;

fn launch(fault: usize, sound: bool) -> c_int {
    unsafe extern "C" {
        fn epitome_emulation_fault(fault: c_int, sound: bool, target: *mut c_int) -> c_int;
    }
    let mut target = [0; 128];
    // SAFETY: the kernels write no more than this.
    unsafe { epitome_emulation_fault(fault as c_int, sound, target.as_mut_ptr()) }
}

/// Does the fault in a process of its own: this test again.
fn process_with(fault: usize) -> Output {
    let arguments = ["--exact", "every_fault_ends_the_process", "--nocapture"];
    Command::new(std::env::current_exe().unwrap()).args(arguments).env(FAULT, fault.to_string()).output().unwrap()
}

#[test]
fn every_fault_ends_the_process() {
    if let Ok(fault) = std::env::var(FAULT) {
        launch(fault.parse().unwrap(), false);
        return;
    }
    for fault in 0..FAULTS {
        let (output, complaint) = (process_with(fault), complaint(fault));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(complaint), "fault {fault}: {:?}, {said}", output.status);
    }
}

#[test]
fn the_same_without_faults_does_not() {
    for fault in 0..FAULTS {
        assert_eq!(launch(fault, true), 0, "fault {fault}");
    }
    assert_eq!(launch(FAULTS, true), -1, "there are no more");
}
