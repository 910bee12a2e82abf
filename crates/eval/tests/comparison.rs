//! Systems compared on the same records, and the tables of it.

use epitome_eval::{ComparisonError, Comparisons, Options, Role, System, compare};

/// Scores without regularity, from 0 to 1.
fn scores(count: usize, seed: usize) -> Vec<f64> {
    (1..=count).map(|i| (i * i * (seed + 3) % 101) as f64 / 101.0).collect()
}

fn shifted(scores: &[f64], by: f64) -> Vec<f64> {
    scores.iter().map(|score| score + by).collect()
}

fn system<'a>(name: &'a str, scores: &[&'a [f64]]) -> System<'a> {
    System { name, role: Role::System, scores: scores.to_vec() }
}

fn options(bootstrap: usize) -> Options {
    Options { bootstrap, seed: 7, ..Options::default() }
}

#[track_caller]
fn check(metrics: &[&str], systems: &[System<'_>]) -> Comparisons {
    compare(metrics, systems, &options(200), 999).expect("the scores fit together")
}

#[test]
fn counts_and_differences_are_those_by_hand() {
    let found = check(
        &["rouge1"],
        &[system("first", &[&[0.5, 0.25, 0.75, 0.1 + 0.2]]), system("second", &[&[0.25, 0.5, 0.25, 0.3]])],
    );
    let found = found.between("rouge1", "second", "first").expect("the pair");
    assert_eq!((found.first.as_str(), found.second.as_str()), ("first", "second"));
    // 0.1 + 0.2 is not the float 0.3 but ties with it.
    assert_eq!((found.wins, found.losses, found.ties), (2, 1, 1));
    assert!((found.difference.mean - 0.125).abs() < 1e-15);
    assert!(found.difference.low < 0.0 && found.difference.high > 0.125);
    // 6 of the 8 assignments of signs to 0.25, -0.25 and 0.5 give an absolute sum of at least 0.5.
    assert!((found.p_randomization - 0.75).abs() < 0.06, "{}", found.p_randomization);
}

#[test]
fn every_pair_by_every_metric_in_order() {
    let [a, b, c] = [0, 1, 2].map(|seed| scores(30, seed));
    let systems = [system("a", &[&a, &b]), system("b", &[&b, &c]), system("c", &[&c, &a])];
    let found = check(&["rouge1", "rougeL"], &systems);
    let pairs: Vec<_> = found.comparisons.iter().map(|f| (&*f.metric, &*f.first, &*f.second)).collect();
    let of = |metric| [(metric, "a", "b"), (metric, "a", "c"), (metric, "b", "c")];
    assert_eq!(pairs, [of("rouge1"), of("rougeL")].concat());
    // rougeL of a and b are the numbers that are rouge1 of b and c.
    let (one, other) = (&found.comparisons[2], &found.comparisons[3]);
    assert_eq!((one.p_bootstrap, one.p_randomization), (other.p_bootstrap, other.p_randomization));
    assert_eq!(one.difference, other.difference);
}

#[test]
fn clear_differences_are_significant_and_corrected_by_family() {
    let worst = scores(100, 1);
    let [middle, best] = [0.1, 0.2].map(|by| shifted(&worst, by));
    let found = check(&["rouge2"], &[system("x", &[&worst]), system("y", &[&middle]), system("z", &[&best])]);
    for comparison in &found.comparisons {
        assert_eq!(comparison.p_randomization, 0.001);
        assert_eq!(comparison.p_bootstrap, 2.0 / 201.0);
        assert_eq!(comparison.p_corrected, 0.003);
        assert!(comparison.significant());
        assert!((comparison.difference.low - comparison.difference.high).abs() < 1e-12);
    }
}

#[test]
fn equal_systems_and_single_records_prove_nothing() {
    let a = scores(50, 4);
    let found = check(&["m"], &[system("a", &[&a]), system("copy", &[&a])]);
    let pair = &found.comparisons[0];
    assert_eq!((pair.p_bootstrap, pair.p_randomization, pair.p_corrected), (1.0, 1.0, 1.0));
    assert_eq!((pair.difference.mean, pair.difference.low, pair.difference.high, pair.ties), (0.0, 0.0, 0.0, 50));

    let found = check(&["m"], &[system("a", &[&[0.75]]), system("b", &[&[0.25]])]);
    let pair = &found.comparisons[0];
    assert_eq!((pair.p_randomization, pair.p_corrected, pair.wins), (1.0, 1.0, 1));
    assert_eq!((pair.difference.low, pair.difference.high), (0.5, 0.5));
}

#[test]
fn bootstrap_is_the_normal_approximation_for_many_records() {
    let zero = vec![0.0; 2000];
    let spread: Vec<f64> = (0..2000).map(|i| (f64::from(i) - 999.5) / 2000.0).collect();
    // A uniform difference of width 1, moved by 1.96 standard errors: the interval reaches down to 0, p is 0.05.
    let error = (1.0 / 12f64 / 2000.0).sqrt();
    let differences = shifted(&spread, 1.96 * error);
    let systems = [system("a", &[&differences]), system("b", &[&zero])];
    let found = compare(&["m"], &systems, &options(4000), 99).expect("the scores fit together");
    let pair = &found.comparisons[0];
    assert!(pair.difference.low.abs() < 0.2 * error, "{:?}", pair.difference);
    assert!((pair.difference.high - 3.92 * error).abs() < 0.2 * error, "{:?}", pair.difference);
    assert!((pair.p_bootstrap - 0.05).abs() < 0.015, "{}", pair.p_bootstrap);
}

#[test]
fn threads_and_other_systems_do_not_matter_but_the_seed_does() {
    let [a, b, c] = [0, 1, 5].map(|seed| scores(300, seed));
    let systems = [system("a", &[&a]), system("b", &[&b]), system("c", &[&c])];
    let run = |threads, systems: &[System<'_>], seed| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
        pool.install(|| compare(&["m"], systems, &Options { seed, ..options(100) }, 3000).expect("the scores fit"))
    };
    let found = run(1, &systems, 7);
    assert_eq!(found, run(3, &systems, 7));
    assert_eq!(found, run(8, &systems, 7));
    let (three, two) = (&found.comparisons[0], &run(2, &systems[..2], 7).comparisons[0]);
    assert_eq!((three.p_randomization, three.difference), (two.p_randomization, two.difference));
    let other = &run(2, &systems, 8).comparisons[0];
    assert_ne!((three.p_randomization, three.difference), (other.p_randomization, other.difference));
}

#[test]
fn without_resampling_there_are_means_alone() {
    let systems = [system("a", &[&[0.5, 0.75]]), system("b", &[&[0.25, 0.25]])];
    let found = compare(&["m"], &systems, &options(0), 0).expect("the scores fit together");
    let pair = &found.comparisons[0];
    assert_eq!((pair.p_bootstrap, pair.p_randomization), (1.0, 1.0));
    assert_eq!((pair.difference.low, pair.difference.mean), (0.375, 0.375));
    assert!(found.markdown().contains("| **62.50** |"), "{}", found.markdown());
}

/// Ten records: `ours` and `close` score 0.5 on average, `far` 0.25 and the oracle 1, by the first metric; all but the
/// oracle are one by the second.
fn four_systems() -> Comparisons {
    let ours = [0.5; 10];
    let close = [0.25, 0.75, 0.25, 0.75, 0.25, 0.75, 0.25, 0.75, 0.25, 0.5];
    let (far, one) = ([0.25; 10], [1.0; 10]);
    let oracle = System { role: Role::UpperBound, ..system("oracle", &[&one, &one]) };
    let systems =
        [oracle, system("ours_{1}", &[&ours, &far]), system("a|b & c", &[&close, &far]), system("far", &[&far, &far])];
    compare(&["rouge1", "rougeL_x"], &systems, &Options { bootstrap: 0, ..options(0) }, 9999).expect("the scores fit")
}

#[test]
fn markdown_is_as_written_by_hand() {
    let expected = "\
| system | rouge1 | rougeL\\_x |
|---|---:|---:|
| oracle‡ | 100.00 | 100.00 |
| ours\\_{1} | **50.00** | **25.00** |
| a\\|b \\& c | 47.50† | **25.00** |
| far | 25.00 | **25.00** |

10 records; ROUGE F1 in percent, without stemming; sentence split: newline (a sentence a line). Bold: the best of a column. \
†: not significantly different from the best (two-sided approximate randomization test with 9999 randomizations, seed 7; p \
of at least 0.05 after Holm-Bonferroni correction, in each column for pairs of systems, pairs of a system and a baseline, \
and other pairs apart). ‡: made with the references, which does not count as the best.
";
    assert_eq!(four_systems().markdown(), expected);
}

#[test]
fn latex_is_as_written_by_hand() {
    let expected = "\
% Needs \\usepackage{booktabs}.
\\begin{table}
  \\centering
  \\caption{10 records; ROUGE F1 in percent, without stemming; sentence split: newline (a sentence a line). Bold: the best of a \
column. $^{\\dagger}$: not significantly different from the best (two-sided approximate randomization test with 9999 \
randomizations, seed 7; p of at least 0.05 after Holm-Bonferroni correction, in each column for pairs of systems, pairs \
of a system and a baseline, and other pairs apart). $^{\\ddagger}$: made with the references, which does not count as the \
best.}
  \\begin{tabular}{lrr}
    \\toprule
    system & rouge1 & rougeL\\_x \\\\
    \\midrule
    oracle$^{\\ddagger}$ & 100.00 & 100.00 \\\\
    ours\\_\\{1\\} & \\textbf{50.00} & \\textbf{25.00} \\\\
    a\\textbar{}b \\& c & 47.50$^{\\dagger}$ & \\textbf{25.00} \\\\
    far & 25.00 & \\textbf{25.00} \\\\
    \\bottomrule
  \\end{tabular}
\\end{table}
";
    assert_eq!(four_systems().latex(), expected);
}

#[test]
fn intervals_stand_beside_the_means() {
    let found = check(&["m"], &[system("a", &[&[0.5; 9]]), system("b", &[&[0.25; 9]])]);
    let caption = "In parentheses: 95 % intervals from 200 paired bootstrap resamples of the records, seed 7.";
    assert!(found.markdown().contains("| a | **50.00** (50.00 to 50.00) |"), "{}", found.markdown());
    assert!(found.markdown().contains(caption), "{}", found.markdown());
    let latex = found.latex();
    assert!(latex.contains("b & 25.00 {\\scriptsize (25.00 to 25.00)} \\\\\n"), "{latex}");
    assert!(latex.contains(&caption.replace('%', "\\%")), "{latex}");
}

#[test]
fn pairs_are_listed() {
    let found = check(&["m"], &[system("a", &[&[0.5; 20]]), system("b*", &[&[0.25; 20]])]);
    let expected = "\
| metric | first | second | difference | 95 % interval | p (bootstrap) | p (randomization) | p (corrected) | wins | losses | \
ties |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
| m | a | b\\* | 25.00 | 25.00 to 25.00 | 0.0100 | 0.0010 | 0.0010 | 20 | 0 | 0 |
";
    assert_eq!(found.markdown_pairs(), expected);
}

#[test]
fn serialized_fields_are_those_documented() {
    let json = serde_json::to_value(four_systems()).expect("finite numbers");
    let keys: Vec<&String> = json["comparisons"][0].as_object().expect("an object").keys().collect();
    let expected = [
        "metric",
        "first",
        "second",
        "difference",
        "p_bootstrap",
        "p_randomization",
        "p_corrected",
        "wins",
        "losses",
        "ties",
    ];
    assert_eq!(keys, expected);
    assert_eq!(json["comparisons"].as_array().map(Vec::len), Some(12));
    assert_eq!(json["systems"][0]["role"], "upper_bound");
    assert_eq!(json["systems"][1]["scores"][0]["mean"], 0.5);
    assert_eq!(json["randomizations"], 9999);
}

#[test]
fn scores_that_do_not_fit_together_are_named() {
    let error = |metrics: &[&str], systems: &[System<'_>]| match compare(metrics, systems, &options(10), 10) {
        Err(error) => error,
        Ok(_) => panic!("compared"),
    };
    let (two, three): (&[f64], &[f64]) = (&[0.5, 0.5], &[0.5, 0.5, 0.5]);
    let found = error(&["m"], &[system("a", &[two]), system("b", &[three])]);
    assert_eq!(found.to_string(), "the system \"b\" has m of 3 records, but 2 are compared; score the same records");
    let found = error(&["m"], &[system("a", &[two]), system("a", &[two])]);
    assert_eq!(found, ComparisonError::DoubledName { name: "a".into() });
    let found = error(&["m", "n"], &[system("a", &[two, two]), system("b", &[two])]);
    assert_eq!(found, ComparisonError::Metrics { system: "b".into(), found: 1, expected: 2 });
    let found = error(&["m"], &[system("a", &[two]), system("b", &[&[0.5, f64::NAN]])]);
    assert_eq!(found.to_string(), "m of the system \"b\" is NaN for record 1 (counted from 0)");
    assert!(matches!(error(&["m"], &[]), ComparisonError::Nothing { systems: 0, .. }));
    assert!(matches!(error(&["m"], &[system("a", &[&[]])]), ComparisonError::Nothing { records: 0, .. }));
}

#[test]
fn what_is_said_of_systems_does_not_depend_on_baselines() {
    let one: Vec<f64> = (0..20).map(|record| 0.5 + 0.01 * f64::from(record % 3)).collect();
    let other: Vec<f64> = one.iter().enumerate().map(|(record, score)| score + 0.02 - 0.003 * record as f64).collect();
    let low = vec![0.1; 20];
    let systems = [system("one", &[&one]), system("other", &[&other])];
    let baseline = |name| System { role: Role::Baseline, ..system(name, &[&low]) };
    let alone = compare(&["f1"], &systems, &Options::default(), 999).expect("two systems");
    let many = [&systems[..], &[baseline("lead"), baseline("tail"), baseline("random")]].concat();
    let beside = compare(&["f1"], &many, &Options::default(), 999).expect("five rows");
    assert_eq!(alone.between("f1", "one", "other"), beside.between("f1", "one", "other"));
    // Six pairs of a system and a baseline, three of baselines.
    let corrected = |one, other| beside.between("f1", one, other).expect("a pair").p_corrected;
    assert!((corrected("one", "lead") - 6.0 / 1000.0).abs() < 1e-12, "{}", corrected("one", "lead"));
    assert_eq!(corrected("lead", "tail"), 1.0);
}

#[test]
fn too_few_randomizations_mark_nothing() {
    let (high, low) = (vec![0.9; 30], vec![0.1; 30]);
    let systems = [system("high", &[&high]), system("low", &[&low])];
    let of = |randomizations| {
        compare(&["f1"], &systems, &Options::default(), randomizations).expect("two systems").markdown()
    };
    assert!(of(18).contains("18 randomizations are too few") && !of(18).contains('\u{2020}'), "{}", of(18));
    assert!(of(99).contains("\u{2020}: not significantly"), "{}", of(99));
}
