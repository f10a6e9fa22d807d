use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use attestfs_attestation::{
    AUTHORITY_FILE_MAX, Authority, NamePattern, TrustedSigners, VerifyingKey,
};

use super::{
    exit::Exit,
    failure::Failure,
    guarded::ByPolicy,
    output::{Output, shown},
    progress::Progress,
    verdict::Admitted,
};
use crate::{
    artifact::{Artifact, AtHand, ContentError, judge, open_file},
    clock::{Clock as _, SystemClock},
    config::{Environment, StateDir},
    signer::{KeyFileError, public_key_from_path},
};

/// Check that a file or directory is what a trusted signer attested
///
/// Offline, with no mount and no daemon. Attestations are looked for beside the artifact (model.sig,
/// claims.jsonl, also in the directories above), and in the state directory; with --bundle, that
/// file alone decides. With --policy each file is judged as a mount with that policy would.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs verify model --key keys/attestfs.pub
  attestfs verify model/model.safetensors --key keys/attestfs.pub --json
  attestfs verify data.csv --key team.pub --bundle data.sigstore.json
  attestfs verify model --policy serving.toml
  attestfs verify model --cert-chain hub-ca.pem --identity 'spiffe://hub.example/model/*'")]
pub(super) struct Verify {
    /// The file or directory
    #[arg(value_name = "PATH")]
    path: PathBuf,

    #[command(flatten)]
    trust: Trust,

    #[command(flatten)]
    by_policy: ByPolicy,

    #[command(flatten)]
    place: Place,
}

/// Whom to believe.
#[derive(Debug, clap::Args)]
pub(super) struct Trust {
    /// The public key of a signer to believe; may be repeated
    #[arg(long = "key", value_name = "PUB")]
    keys: Vec<PathBuf>,

    /// The certificates of an authority, in PEM: whomever it certified is believed; may be repeated
    #[arg(long = "cert-chain", value_name = "F")]
    authorities: Vec<PathBuf>,

    /// Of those only who has this name, a URI, a mail address or a domain; '*' stands for what lies
    /// between two separators
    #[arg(long, value_name = "I")]
    identity: Option<String>,

    /// Not available yet: who vouched for that identity before a public authority
    #[arg(long, value_name = "U", hide = true)]
    issuer: Option<String>,
}

/// Where to look for attestations.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// An attestation, a model signature or a claims.jsonl; it alone decides
    #[arg(long, value_name = "F")]
    bundle: Option<PathBuf>,

    /// The state directory
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
}

impl Verify {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        if self.by_policy.is_given() {
            let artifact = Artifact::at(&self.path)?;
            output.show(&self.by_policy.verdict(&artifact, &self.place, environment)?)?;
            return Ok(Exit::Yes);
        }
        let signers = self.trust.signers()?.ok_or_else(nobody)?;
        let artifact = Artifact::at(&self.path)?;
        let at_hand = self.place.at_hand(&artifact, environment)?;
        let judged = judge(&artifact, &at_hand, &signers, SystemClock.now(), &Progress::new())?;
        output.show(&Admitted::new(shown(&self.path), judged))?;
        Ok(Exit::Yes)
    }
}

impl Trust {
    /// The trusted signers; none when nobody was named.
    pub(super) fn signers(&self) -> Result<Option<TrustedSigners>, Failure> {
        if self.issuer.is_some() {
            let message = "--issuer is not available yet in this version of attestfs";
            return Err(Failure::usage(message).with_next_step(
                "verify with the public key of the signer, --key PUB, or with its own authority, --cert-chain F",
            ));
        }
        let pattern = self.pattern()?;
        if self.keys.is_empty() && self.authorities.is_empty() {
            return Ok(None);
        }
        let keys: Vec<_> = self.keys.iter().map(|key| public_key(key)).collect::<Result<_, _>>()?;
        let mut signers = TrustedSigners::keys(keys);
        for path in &self.authorities {
            let authority = authority(path, pattern.clone())?;
            signers = signers.with_authority(&path.display().to_string(), authority);
        }
        Ok(Some(signers))
    }

    fn pattern(&self) -> Result<Option<NamePattern>, Failure> {
        let Some(identity) = &self.identity else { return Ok(None) };
        if self.authorities.is_empty() {
            return Err(Failure::usage("--identity needs to know who may give that name")
                .with_next_step(
                    "give the certificates of the signer's authority: --cert-chain F",
                ));
        }
        let pattern = identity
            .parse()
            .map_err(|error| Failure::usage(format_args!("--identity '{identity}': {error}")))?;
        Ok(Some(pattern))
    }
}

impl Place {
    /// A state directory that nobody named and that is not there has no attestations.
    pub(super) fn at_hand(
        &self,
        artifact: &Artifact,
        environment: &Environment,
    ) -> Result<AtHand, Failure> {
        let state = self.state(environment)?;
        let at_hand = AtHand::around(artifact, state.as_ref())?;
        match &self.bundle {
            Some(bundle) => at_hand.and_bundle(bundle).map_err(Failure::from),
            None => Ok(at_hand),
        }
    }

    /// The state directory, whether or not it is there, unless somebody named it.
    pub(super) fn state(&self, environment: &Environment) -> Result<Option<StateDir>, Failure> {
        if let Some(named) = self.state.as_deref().filter(|named| !named.is_dir()) {
            return Err(no_state(named));
        }
        Ok(StateDir::resolve(self.state.as_deref(), environment).ok())
    }
}

fn public_key(path: &Path) -> Result<VerifyingKey, Failure> {
    public_key_from_path(path).map_err(|error| match error {
        KeyFileError::Io { .. } => Failure::environment(error)
            .with_next_step("name the public key of the signer, attestfs.pub"),
        other => other.into(),
    })
}

fn authority(path: &Path, pattern: Option<NamePattern>) -> Result<Authority, Failure> {
    let failed = |reason: &dyn std::fmt::Display| {
        let message = format_args!("the authority {}: {reason}", path.display());
        Failure::environment(message).with_next_step(
            "name a file with the certificates of whoever issues the signers' ones, in PEM",
        )
    };
    let pem = read_authority(path).map_err(|error| failed(&error))?;
    Authority::new(&pem, pattern).map_err(|error| failed(&error))
}

/// One byte more than may be there shows that it is too long.
fn read_authority(path: &Path) -> Result<Vec<u8>, ContentError> {
    let mut pem = Vec::new();
    let most = AUTHORITY_FILE_MAX as u64 + 1;
    open_file(path)?.take(most).read_to_end(&mut pem)?;
    Ok(pem)
}

fn nobody() -> Failure {
    Failure::usage(
        "nobody to believe: verification needs the public key of a signer, or its authority",
    )
    .with_next_step(
        "give --key PUB or --cert-chain F; 'attestfs explain PATH' tells who claims to have signed",
    )
}

fn no_state(path: &Path) -> Failure {
    Failure::environment(format_args!("the state directory {}: not there", path.display()))
        .with_next_step("leave --state out to verify by what lies beside the artifact")
}
