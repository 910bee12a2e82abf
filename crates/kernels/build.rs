//! Compiles the kernels of `cuda/`: by nvcc for the feature `cuda`, by the C++ compiler for `cuda-emulation`.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // With either feature: operations on tensors of a GPU, real or emulated.
    println!("cargo::rustc-check-cfg=cfg(gpu)");
    #[cfg(any(feature = "cuda", feature = "cuda-emulation"))]
    {
        println!("cargo::rustc-cfg=gpu");
        kernels::build();
    }
}

#[cfg(any(feature = "cuda", feature = "cuda-emulation"))]
mod kernels {
    #[cfg(feature = "cuda")]
    use std::path::Path;
    use std::path::PathBuf;

    #[cfg(all(feature = "cuda", feature = "cuda-emulation"))]
    compile_error!("the features `cuda` and `cuda-emulation` define the same functions: choose one");

    const LIBRARY: &str = "epitome_cuda_kernels";

    /// The last is for processors that come later.
    #[cfg(feature = "cuda")]
    const TARGETS: [&str; 3] = ["80,code=sm_80", "90,code=sm_90", "90,code=compute_90"];

    /// How the names end of files with instructions that processors of capability 9.0 alone have.
    #[cfg(feature = "cuda")]
    const WARP_GROUP: &str = "_warp_group";

    pub(super) fn build() {
        println!("cargo::rerun-if-changed=cuda");
        compile(sources("cuda"));
    }

    /// Every `.cu` file below a folder, in order.
    fn sources(folder: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder}: {error}"));
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        paths.sort();
        let below = |path: PathBuf| match path.is_dir() {
            true => sources(path.to_str().expect("names in ASCII")),
            false => vec![path],
        };
        paths.into_iter().flat_map(below).filter(|path| path.extension().is_some_and(|end| end == "cu")).collect()
    }

    #[cfg(feature = "cuda")]
    fn compile(sources: Vec<PathBuf>) {
        let mut library = cc::Build::new();
        // One at a time: for several files at once device code would be made to be linked, which no file here needs.
        for source in sources {
            library.objects(nvcc(&source).file(source).compile_intermediates());
        }
        library.cpp(true).compile(LIBRARY);
        println!("cargo::rustc-link-lib=cudart");
    }

    #[cfg(feature = "cuda")]
    fn nvcc(source: &Path) -> cc::Build {
        let mut build = cc::Build::new();
        // Debugging information of device code would turn its optimization off; that of lines does not.
        build.cuda(true).cudart("none").opt_level(2).debug(false).flag("-lineinfo");
        // Of device code, too.
        build.flag("-std=c++17");
        let stem = source.file_stem().and_then(|stem| stem.to_str()).expect("names in ASCII");
        let targets: &[&str] = if stem.ends_with(WARP_GROUP) { &["90a,code=sm_90a"] } else { &TARGETS };
        for target in targets {
            build.flag("-gencode").flag(format!("arch=compute_{target}"));
        }
        build
    }

    #[cfg(not(feature = "cuda"))]
    fn compile(sources: Vec<PathBuf>) {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").opt_level(2).flag("-x").flag("c++");
        // Numbers are read through pointers to other types, as CUDA allows.
        build.flag("-fno-strict-aliasing").flag("-Wno-unknown-pragmas");
        let mut kernels = build.clone();
        if !std::env::var("CXXFLAGS").is_ok_and(|flags| flags.contains("-fsanitize=address")) {
            // Calls at loads and stores, which `announced.cpp` answers. An address sanitizer does not go with it.
            kernels.flag("-fsanitize=thread");
        }
        kernels.file("cuda/emulation/faults.cpp").files(sources).compile(LIBRARY);
        let emulation =
            ["announced", "copies", "device", "products", "races"].map(|name| format!("cuda/emulation/{name}.cpp"));
        build.files(emulation).compile("epitome_cuda_emulation");
    }
}
