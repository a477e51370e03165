//! What the fuzz targets start from: for each way that a case can go, one input, found by chance.
//! `make fuzz-seeds` writes them anew.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

type Check = fn(&[u8]) -> &'static str;

const TARGETS: [(&str, Check, usize); 5] = [
    ("close_injection", crate::close_injection::check, 200),
    ("extended_connect", crate::extended_connect::check, 100),
    ("handshake", crate::handshake::check, 60),
    ("relay", crate::relay::check, 200),
    ("scanner", crate::scanner::check, 60),
];
const TRIES: u64 = 10_000;

fn folder(target: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("fuzz/corpus").join(target)
}

#[test]
fn every_seed_is_what_its_name_says() {
    if std::env::var_os("HOLDFAST_GENERATE").is_some() {
        for (target, check, length) in TARGETS {
            write(target, check, length);
        }
    }
    for (target, check, _) in TARGETS {
        let mut count = 0;
        for entry in fs::read_dir(folder(target)).unwrap() {
            let path = entry.unwrap().path();
            let became = check(&fs::read(&path).unwrap());
            assert_eq!(became, path.file_name().unwrap(), "{}", path.display());
            count += 1;
        }
        assert!(count >= 4, "{target} has {count} seeds");
    }
}

fn write(target: &str, check: Check, length: usize) {
    let mut seeds = BTreeMap::new();
    for number in 0..TRIES {
        let mut chance = fastrand::Rng::with_seed(number);
        let bytes: Vec<u8> = (0..length).map(|_| chance.u8(..)).collect();
        seeds.entry(check(&bytes)).or_insert(bytes);
    }
    let folder = folder(target);
    drop(fs::remove_dir_all(&folder));
    fs::create_dir_all(&folder).unwrap();
    for (name, bytes) in seeds {
        fs::write(folder.join(name), bytes).unwrap();
    }
}
