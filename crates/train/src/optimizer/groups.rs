//! Which parameters are trained, and how.

use std::collections::BTreeMap;

use glob::Pattern;

use super::config::{GroupConfig, OptimConfig};
use crate::{Error, Result};

/// How a trained parameter is updated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Settings {
    /// Multiple of the run's learning rate.
    pub(crate) learning_rate_scale: f64,
    /// Decoupled decay.
    pub(crate) weight_decay: f64,
}

/// The settings of the parameters that are trained; of the groups of `config` the first that matches a name decides.
pub(crate) fn resolve(config: &OptimConfig, names: &[&str]) -> Result<BTreeMap<String, Settings>> {
    let patterns = config.groups.iter().map(|group| parse(group, names)).collect::<Result<Vec<_>>>()?;
    let mut trained = BTreeMap::new();
    for name in names {
        let group = patterns.iter().zip(&config.groups).find(|(pattern, _)| matches(pattern, name));
        if let Some(settings) = settings(config, name, group.map(|(_, group)| group)) {
            trained.insert((*name).to_owned(), settings);
        }
    }
    if trained.is_empty() {
        return Err(Error::config("optim.groups", "freeze every parameter: nothing is left to train"));
    }
    Ok(trained)
}

fn parse(group: &GroupConfig, names: &[&str]) -> Result<Pattern> {
    let complain = |message: String| Error::config(format!("optim.groups: pattern `{}`", group.pattern), message);
    let pattern = Pattern::new(&group.pattern).map_err(|error| complain(error.msg.to_owned()))?;
    if !names.iter().any(|name| matches(&pattern, name)) {
        return Err(complain("matches no parameter: names are such as `encoder.layers.0.fc1.weight`".into()));
    }
    Ok(pattern)
}

fn matches(pattern: &Pattern, name: &str) -> bool {
    pattern.matches(name) || name.strip_prefix("led.").is_some_and(|short| pattern.matches(short))
}

/// None for a frozen parameter.
fn settings(config: &OptimConfig, name: &str, group: Option<&GroupConfig>) -> Option<Settings> {
    let default = GroupConfig::default();
    let group = group.unwrap_or(&default);
    let multiple = group.learning_rate.map(|rate| rate / config.learning_rate);
    let weight_decay = group.weight_decay.unwrap_or(config.weight_decay);
    (!group.frozen).then_some(Settings {
        learning_rate_scale: multiple.or(group.learning_rate_scale).unwrap_or(1.0),
        weight_decay: if is_decayed(name) { weight_decay } else { 0.0 },
    })
}

/// Weight matrices and embeddings are decayed, biases and layer norms are not.
fn is_decayed(name: &str) -> bool {
    !(name.ends_with(".bias") || name.contains("layer_norm") || name.contains("layernorm"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 5] = [
        "led.decoder.layers.0.fc1.weight",
        "led.encoder.layers.0.fc1.bias",
        "led.encoder.layers.0.fc1.weight",
        "led.encoder.layers.1.fc1.weight",
        "led.shared.weight",
    ];

    fn group(pattern: &str) -> GroupConfig {
        GroupConfig { pattern: pattern.into(), ..GroupConfig::default() }
    }

    fn resolved(groups: &[GroupConfig]) -> Result<BTreeMap<String, Settings>> {
        let config =
            OptimConfig { learning_rate: 1e-3, weight_decay: 0.1, groups: groups.to_vec(), ..OptimConfig::default() };
        resolve(&config, &NAMES)
    }

    #[test]
    fn the_first_group_that_matches_decides() {
        let settings = resolved(&[
            GroupConfig { learning_rate: Some(1e-4), ..group("encoder.layers.0.*") },
            GroupConfig { frozen: true, ..group("led.encoder.*") },
            GroupConfig { learning_rate_scale: Some(2.0), weight_decay: Some(0.5), ..group("*.weight") },
        ])
        .unwrap();
        let of = |name: &str| settings.get(name).map(|settings| (settings.learning_rate_scale, settings.weight_decay));
        assert_eq!(of(NAMES[0]), Some((2.0, 0.5)));
        assert_eq!(of(NAMES[1]), Some((1e-4 / 1e-3, 0.0)), "a bias is not decayed");
        assert_eq!(of(NAMES[2]), Some((1e-4 / 1e-3, 0.1)));
        assert_eq!(of(NAMES[3]), None);
        assert_eq!(of(NAMES[4]), Some((2.0, 0.5)));
    }

    #[test]
    fn patterns_that_match_nothing_and_runs_that_train_nothing_are_errors() {
        let error = |groups: &[GroupConfig]| resolved(groups).unwrap_err().to_string();
        let unmatched = error(&[GroupConfig { frozen: true, ..group("encodr.*") }]);
        assert!(unmatched.contains("`encodr.*`"), "{unmatched}");
        assert!(error(&[GroupConfig { frozen: true, ..group("*") }]).contains("every parameter"));
    }

    #[test]
    fn biases_and_norms_are_not_decayed() {
        assert!(is_decayed("led.shared.weight"));
        assert!(is_decayed("led.encoder.layers.0.fc1.weight"));
        assert!(!is_decayed("led.encoder.layers.0.fc1.bias"));
        assert!(!is_decayed("led.encoder.layernorm_embedding.weight"));
        assert!(!is_decayed("led.decoder.layers.1.encoder_attn_layer_norm.weight"));
    }
}
