//! The source itself under test: the direction of imports, the opening of each module.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The layers from the lowest to the highest; a module uses only those before it.
const LAYERS: &[&str] = &[
    "model",
    "net",
    "store",
    "promql",
    "cdc",
    "ingest",
    "detect",
    "alert",
    "migration",
    "http",
    "client",
    "tui",
    "config",
    "demo",
    "app",
    "cli",
];

/// What a module may not use although it lies below it, and why.
const APART: &[(&str, &[&str], &str)] = &[
    ("cdc", &["net", "store", "promql"], "it is pure"),
    (
        "ingest",
        &["promql"],
        "ingest and promql do not know each other",
    ),
    (
        "migration",
        &["ingest", "detect"],
        "it reads series, not the ways in",
    ),
    (
        "client",
        &["store", "promql", "ingest", "detect", "alert", "migration"],
        "it is a client of the API",
    ),
    (
        "tui",
        &["store", "promql", "ingest", "detect", "alert", "migration"],
        "it is a client of the API",
    ),
];

/// Usable everywhere but in `model` and `cdc`.
const SHARED: &[&str] = &["telemetry", "shutdown"];

/// Uses that go against the order, each with its reason.
const EXCEPTIONS: &[(&str, &str, &str)] = &[("cli", "store", "names the format version")];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

/// The top module that a file belongs to.
fn module(root: &Path, path: &Path) -> String {
    let first = path
        .strip_prefix(root)
        .unwrap()
        .components()
        .next()
        .unwrap();
    first
        .as_os_str()
        .to_string_lossy()
        .trim_end_matches(".rs")
        .to_owned()
}

/// The code before the tests, without comments.
fn code(text: &str) -> String {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Every `crate::x` in the code, also in `use crate::{x, y::z}`.
fn used(code: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            names.insert(
                rest.chars()
                    .take_while(|c| c.is_alphanumeric() || *c == '_')
                    .collect(),
            );
            continue;
        };
        let mut depth = 0;
        let mut name = String::new();
        for character in list.chars() {
            match character {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => name.clear(),
                ':' if depth == 0 => {
                    names.insert(name.trim().to_owned());
                }
                other if depth == 0 => {
                    name.push(other);
                    if LAYERS.contains(&name.trim()) {
                        names.insert(name.trim().to_owned());
                    }
                }
                _ => {}
            }
        }
    }
    names
}

#[test]
fn imports_point_from_the_higher_layer_to_the_lower() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rank = |name: &str| LAYERS.iter().position(|layer| *layer == name);
    let mut wrong = Vec::new();
    for path in sources(&root) {
        let from = module(&root, &path);
        if ["lib", "main"].contains(&from.as_str()) {
            continue;
        }
        for to in used(&code(&fs::read_to_string(&path).unwrap())) {
            if to == from || EXCEPTIONS.iter().any(|(a, b, _)| *a == from && *b == to) {
                continue;
            }
            let apart = APART
                .iter()
                .find(|(a, names, _)| *a == from && names.contains(&&*to));
            let upward = match (rank(&from), rank(&to)) {
                (Some(from), Some(to)) => to > from,
                (None, Some(_)) => to != "model",
                (_, None) => SHARED.contains(&&*to) && ["model", "cdc"].contains(&&*from),
            };
            if upward || apart.is_some() {
                wrong.push(format!("{} uses crate::{to}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_file_says_what_it_owns() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let silent: Vec<_> = sources(&root)
        .into_iter()
        .filter(|path| !path.to_string_lossy().contains("/tests"))
        .filter(|path| {
            let text = fs::read_to_string(path).unwrap();
            !text.starts_with("//!") && !text.starts_with("#![doc")
        })
        .collect();
    assert!(silent.is_empty(), "without a `//!`: {silent:?}");
}

#[test]
fn no_module_is_a_mod_rs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert!(sources(&root).iter().all(|path| !path.ends_with("mod.rs")));
}
