//! Several processes under `mpirun`, each with an emulated GPU of its own. The program emulates none, so that the processes are
//! this one again, running the test that starts them: there it does what a process is to do.

use std::env;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use candle_core::{Device, Tensor};
use epitome_distributed::ProcessGroup;
use epitome_kernels::cuda::emulated_gpus;
use epitome_kernels::{Collective, DeviceName};
use epitome_train::{Context, RunConfig};

use crate::fixture::{Folder, Run};
use crate::mpi::{config, launch, numbers, wait_for};

/// What a process does.
const TASK: &str = "EPITOME_TEST_TASK";

/// With how many GPUs on its machine.
const GPUS: &str = "EPITOME_TEST_GPUS";

/// Configuration and output directory of a run.
const RUN: [&str; 2] = ["EPITOME_TEST_CONFIG", "EPITOME_TEST_OUTPUT"];

/// Does what a process is to do, if this is one.
fn is_process() -> bool {
    let Ok(task) = env::var(TASK) else { return false };
    let group = ProcessGroup::join().unwrap();
    let body = || match task.as_str() {
        "train" => train(&group, RUN.map(|name| env::var(name).unwrap())),
        "sums" => sums(&group),
        "sums that differ" => sums_that_differ(&group),
        device => drop(device.parse::<DeviceName>().unwrap().of_process(&group).unwrap()),
    };
    let gpus = env::var(GPUS).unwrap().parse().unwrap();
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| emulated_gpus(gpus, body))) {
        group.abort(1);
        resume_unwind(panic);
    }
    true
}

/// As many processes of a test on a machine with `gpus` GPUs.
fn together(test: &str, (processes, gpus): (usize, usize), task: &str, run: [&str; 2]) -> Run {
    let mut again = Command::new(env::current_exe().unwrap());
    again.args(["--exact", &format!("gpus::{test}"), "--nocapture"]);
    let mut launched = launch(processes, &again);
    launched.env(TASK, task).env(GPUS, gpus.to_string()).envs(RUN.into_iter().zip(run));
    wait_for(launched)
}

fn train(group: &ProcessGroup, run: [String; 2]) {
    train_with(group, run, &[]);
}

fn train_with(group: &ProcessGroup, [config, output]: [String; 2], changes: &[&str]) {
    let changes: Vec<_> = ["run.device = \"cuda\""].iter().chain(changes).map(|change| (*change).to_owned()).collect();
    let config = RunConfig::load(Path::new(&config), &changes).unwrap();
    let interrupted = AtomicBool::new(false);
    let context = Context { output: Path::new(&output), resume: false, group, interrupted: &interrupted };
    epitome_train::train(&config, context, &mut |_| (), None).unwrap();
}

/// With so little of what was that averages are the weights: if what products in bf16 read of averages stayed behind, validations
/// would differ.
#[test]
fn averages_are_seen_in_bf16() {
    let folder = Folder::new();
    let config = config(&folder, 4, 2);
    let [plain, averaged] = [("plain", vec![]), ("averaged", vec!["optim.ema_decay = 1e-6"])].map(|(name, changes)| {
        let changes = [vec!["run.precision = \"bf16\""], changes].concat();
        emulated_gpus(1, || train_with(&ProcessGroup::single(), [config.clone(), folder.path(name)], &changes));
        numbers(&folder, name)
    });
    assert_eq!(plain.len(), 6, "4 losses, 2 validations");
    let (first, last) = (plain[2], plain[5]);
    assert!(
        first - last > 5e-3 * first,
        "validations that training hardly changes would show nothing: {first}, {last}"
    );
    for (plain, averaged) in plain.iter().zip(&averaged) {
        assert!((plain - averaged).abs() < 1e-3 * plain, "{averaged} for {plain}");
    }
}

#[test]
fn training_gives_the_losses_of_one_gpu() {
    if is_process() {
        return;
    }
    let folder = Folder::new();
    let config = config(&folder, 4, 2);
    emulated_gpus(1, || train(&ProcessGroup::single(), [config.clone(), folder.path("alone")]));
    let expected = numbers(&folder, "alone");
    assert_eq!(expected.len(), 6, "4 losses, 2 validations");
    for processes in [2, 3] {
        let name = format!("together-{processes}");
        let (sizes, run) = ((processes, processes), [config.as_str(), &folder.path(&name)]);
        together("training_gives_the_losses_of_one_gpu", sizes, "train", run).succeeds();
        let found = numbers(&folder, &name);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-5 * expected, "{processes} processes: {found} for {expected}");
        }
    }
}

/// Each process has the GPU of its number, and tensors of several shapes are added up over all of them.
fn sums(group: &ProcessGroup) {
    let own = |name| DeviceName::of_process(name, group).unwrap();
    assert_eq!(own(DeviceName::Cuda(None)), DeviceName::Cuda(Some(group.rank())));
    assert_eq!(own(DeviceName::Cpu), DeviceName::Cpu);
    let device = own(DeviceName::Cuda(None)).open().unwrap();
    let collective = Collective::join(group, &device).unwrap();
    let tensor = |first: f32, shape: (usize, usize)| {
        Tensor::arange(first, first + (shape.0 * shape.1) as f32, &device).unwrap().reshape(shape).unwrap()
    };
    for round in 0..3 {
        let own = [(2, 3), (0, 4), (1, 1)].map(|shape| tensor((group.rank() * 10 + round) as f32, shape));
        collective.all_reduce(&own.each_ref()).unwrap();
        // Of n processes: n times the common part, and tens of the sum of all ranks.
        let n = group.world_size();
        for tensor in own {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let expected = (0..tensor.elem_count()).map(|index| (n * (index + round) + 5 * n * (n - 1)) as f32);
            assert_eq!(values, expected.collect::<Vec<_>>());
        }
    }
    collective.leave().unwrap();
}

fn sums_that_differ(group: &ProcessGroup) {
    let collective = Collective::join(group, &Device::Cpu).unwrap();
    let own = Tensor::zeros(1 + group.rank(), candle_core::DType::F32, &Device::Cpu).unwrap();
    collective.all_reduce(&[&own]).unwrap();
}

#[test]
fn every_process_has_a_gpu_and_the_sums_of_all() {
    if is_process() {
        return;
    }
    let test = "every_process_has_a_gpu_and_the_sums_of_all";
    for processes in [2, 3] {
        // More GPUs than processes are no harm.
        together(test, (processes, 3), "sums", ["", ""]).succeeds();
    }
    let failed = together(test, (2, 2), "sums that differ", ["", ""]);
    assert!(failed.code != 0 && failed.stderr.contains("ncclAllReduce") | failed.stderr.contains("ncclGroupEnd"));
}

#[test]
fn what_gives_no_gpu_to_each_process_is_refused_once() {
    if is_process() {
        return;
    }
    for (task, gpus, parts) in
        [("cuda", 2, ["sees 2 GPU(s)", "3 processes"]), ("cuda:1", 3, ["one GPU for 3 processes", "`cuda` gives each"])]
    {
        let test = "what_gives_no_gpu_to_each_process_is_refused_once";
        let refused = together(test, (3, gpus), task, ["", ""]);
        assert_ne!(refused.code, 0);
        for part in parts {
            assert_eq!(refused.stderr.matches(part).count(), 1, "`{part}` in {}", refused.stderr);
        }
    }
}
