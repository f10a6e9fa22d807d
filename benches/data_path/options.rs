//! What the command line can change.

use std::path::PathBuf;

/// What the command line can change.
#[derive(Debug)]
pub(crate) struct Options {
    /// `--only P1,P4`: these rows alone.
    pub(crate) only: Option<Vec<String>>,
    /// `--rounds N`.
    pub(crate) rounds: usize,
    /// `--shrink N`: files, and their numbers, are so many times smaller than promised.
    pub(crate) shrink: u64,
    /// `--json FILE`: where the rows are written for programs.
    pub(crate) json: Option<PathBuf>,
    /// `--plots`: measures and draws the plots beside this program's sources.
    pub(crate) plots: bool,
    /// `--capture MODE`: how attestfs comes to know what is written.
    pub(crate) capture: String,
    /// `--model-signing PATH`: the reference implementation of model signatures.
    pub(crate) model_signing: PathBuf,
    /// `--tmpfs DIR`: a directory in memory.
    pub(crate) tmpfs: PathBuf,
    /// `--disk DIR`: a directory on a disk.
    pub(crate) disk: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            only: None,
            rounds: 5,
            shrink: 1,
            json: None,
            plots: false,
            capture: "inline".to_owned(),
            model_signing: PathBuf::from("model_signing"),
            tmpfs: PathBuf::from("/dev/shm"),
            disk: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        }
    }
}

impl Options {
    const USAGE: &str = "options: --only P1,P4  --rounds N  --shrink N  --quick (small, one round)  \
         --json FILE  --plots  --capture inline|reread  --model-signing PATH  --tmpfs DIR  --disk DIR";

    /// # Panics
    /// When there is one that it does not know.
    pub(crate) fn parse(arguments: &[String]) -> Self {
        let mut options = Self::default();
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("{}", Self::USAGE));
            match word {
                // What cargo adds.
                "--bench" => {}
                "--only" => options.only = Some(value().split(',').map(str::to_owned).collect()),
                "--rounds" => options.rounds = value().parse().unwrap(),
                "--shrink" => options.shrink = value().parse().unwrap(),
                "--quick" => (options.rounds, options.shrink) = (1, 256),
                "--json" => options.json = Some(PathBuf::from(value())),
                "--plots" => options.plots = true,
                "--capture" => value().clone_into(&mut options.capture),
                "--model-signing" => options.model_signing = PathBuf::from(value()),
                "--tmpfs" => options.tmpfs = PathBuf::from(value()),
                "--disk" => options.disk = PathBuf::from(value()),
                other => panic!("{other}? {}", Self::USAGE),
            }
        }
        assert!(options.rounds > 0 && options.shrink > 0, "{}", Self::USAGE);
        options
    }

    /// Whether somebody wants to see this row.
    pub(crate) fn wants(&self, number: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.iter().any(|wanted| wanted == number))
    }
}
