//! Who may import whom, asserted from `cargo metadata` and from the sources.
//!
//! Languages and formats are pure, only `storage` waits, only `functions` know HTTP, the clock and the
//! environment. A new crate or a new edge fails here until it is written into one of the tables below.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Every crate of ours and those of ours that it may name outside its tests.
const MAY_IMPORT: [(&str, &[&str]); 10] = [
    (
        "spandrel",
        &[
            "spandrel-compact",
            "spandrel-edge",
            "spandrel-ingest",
            "spandrel-query",
            "spandrel-model",
            "spandrel-storage",
            "spandrel-wire",
        ],
    ),
    ("spandrel-ingest", &["spandrel-edge", "spandrel-wire", "spandrel-storage", "spandrel-model"]),
    (
        "spandrel-query",
        &["spandrel-edge", "spandrel-promql", "spandrel-wire", "spandrel-storage", "spandrel-model"],
    ),
    ("spandrel-compact", &["spandrel-edge", "spandrel-storage"]),
    ("spandrel-edge", &["spandrel-storage", "spandrel-model"]),
    ("spandrel-promql", &["spandrel-model"]),
    ("spandrel-wire", &["spandrel-model"]),
    ("spandrel-storage", &["spandrel-model"]),
    ("spandrel-model", &[]),
    ("spandrel-tests", &[]),
];

/// Foreign crates, by prefix, that only some of ours may name outside their tests.
const BELONGS_TO: [(&str, Owner); 12] = [
    ("arrow", Owner::Crate("spandrel-storage")),
    ("parquet", Owner::Crate("spandrel-storage")),
    ("aws-", Owner::Crate("spandrel-storage")),
    ("redb", Owner::Crate("spandrel-storage")),
    ("prost", Owner::Crate("spandrel-wire")),
    ("opentelemetry", Owner::Nobody),
    ("axum", Owner::Folder("functions")),
    ("lambda_", Owner::Folder("functions")),
    ("http", Owner::Folder("functions")),
    ("hyper", Owner::Folder("functions")),
    ("tower", Owner::Folder("functions")),
    ("clap", Owner::Folder("functions")),
];

/// Foreign crates, by prefix, that the pure crates may not name even in part: nothing in them waits.
const NOT_IN_PURE_CRATES: [&str; 4] = ["tokio", "futures", "async", "tracing"];

/// The crates of `shared/` that are pure.
const PURE: [&str; 3] = ["spandrel-model", "spandrel-promql", "spandrel-wire"];

enum Owner {
    Crate(&'static str),
    Folder(&'static str),
    Nobody,
}

fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml"))
        .no_deps()
        .other_options(["--offline".to_owned()])
        .exec()
        .expect("cargo metadata of this workspace")
}

/// Names of a package's dependencies outside its tests.
fn dependencies(package: &Package) -> BTreeSet<&str> {
    package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind != DependencyKind::Development)
        .map(|dependency| dependency.name.as_str())
        .collect()
}

/// The folder below the workspace's root that a package lies in.
fn top_folder(metadata: &Metadata, package: &Package) -> String {
    let path =
        package.manifest_path.strip_prefix(&metadata.workspace_root).expect("a member of the workspace");
    path.components().next().map(|folder| folder.as_str().to_owned()).unwrap_or_default()
}

#[test]
fn crates_import_only_what_the_table_allows() {
    let metadata = workspace();
    let allowed: BTreeMap<_, BTreeSet<_>> =
        MAY_IMPORT.iter().map(|(name, imports)| (*name, imports.iter().copied().collect())).collect();
    let ours: BTreeSet<_> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(ours, allowed.keys().copied().collect(), "the crates of the workspace and of the table");
    for package in &metadata.packages {
        let imports: BTreeSet<_> = dependencies(package).intersection(&ours).copied().collect();
        let extra: Vec<_> = imports.difference(&allowed[package.name.as_str()]).collect();
        assert!(extra.is_empty(), "{} may not import {extra:?}", package.name);
    }
}

#[test]
fn foreign_crates_stay_with_their_owner() {
    let metadata = workspace();
    for package in &metadata.packages {
        for dependency in dependencies(package) {
            for (prefix, owner) in &BELONGS_TO {
                let is_allowed = match owner {
                    Owner::Crate(name) => package.name.as_str() == *name,
                    Owner::Folder(folder) => top_folder(&metadata, package) == *folder,
                    Owner::Nobody => false,
                };
                assert!(
                    is_allowed || !dependency.starts_with(prefix),
                    "{} may not depend on {dependency}",
                    package.name
                );
            }
        }
    }
}

#[test]
fn pure_crates_do_not_wait() {
    let metadata = workspace();
    for package in metadata.packages.iter().filter(|package| PURE.contains(&package.name.as_str())) {
        for dependency in dependencies(package) {
            let is_pure = NOT_IN_PURE_CRATES.iter().all(|prefix| !dependency.starts_with(prefix));
            assert!(is_pure, "{} is pure and may not depend on {dependency}", package.name);
        }
    }
}

#[test]
fn shared_crates_read_neither_clock_nor_environment() {
    let clock_and_environment =
        ["SystemTime::now", "Instant::now", "env::var", "env::args", "env::current_dir", "env::temp_dir"];
    let outside_world = ["std::fs", "std::net", "std::process", "std::thread", "async fn", ".await"];
    let metadata = workspace();
    let mut n_files = 0;
    for package in metadata.packages.iter().filter(|package| top_folder(&metadata, package) == "shared") {
        let mut forbidden = clock_and_environment.to_vec();
        if PURE.contains(&package.name.as_str()) {
            forbidden.extend(outside_world);
        }
        for path in sources(package.manifest_path.parent().expect("a folder").join("src").as_std_path()) {
            n_files += 1;
            let source = std::fs::read_to_string(&path).expect("a source file");
            for (line, code) in code_outside_tests(&source) {
                for name in &forbidden {
                    assert!(
                        !code.contains(name),
                        "{}:{line}: {name} is not for shared crates",
                        path.display()
                    );
                }
            }
        }
    }
    assert!(n_files > 10, "only {n_files} source files found");
}

/// All Rust files below `folder` but those that hold only tests.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !path.ends_with("tests") {
                found.extend(sources(&path));
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
    found
}

/// Numbered lines of a source without comments and tests.
///
/// `#[cfg(test)]` hides one declaration (`mod tests;`, `use …;`), or, where a block follows, the rest of the file:
/// tests stand at its end.
fn code_outside_tests(source: &str) -> Vec<(usize, &str)> {
    let mut code = Vec::new();
    let mut is_hidden = false;
    for (i, line) in source.lines().enumerate() {
        let line = line.split("//").next().unwrap_or_default().trim_end();
        if line.trim() == "#[cfg(test)]" {
            is_hidden = true;
        } else if !is_hidden {
            code.push((i + 1, line));
        } else if line.ends_with('{') {
            break;
        } else if line.ends_with(';') {
            is_hidden = false;
        }
    }
    code
}

#[test]
fn tests_and_comments_are_not_searched() {
    let source = "#[cfg(test)]\nmod tests;\nuse a;\n// Instant::now\nlet b = 1; // Instant::now\n\
                  #[cfg(test)]\nmod tests {\nInstant::now\n}";
    assert_eq!(code_outside_tests(source), [(3, "use a;"), (4, ""), (5, "let b = 1;")]);
}
