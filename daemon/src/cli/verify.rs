use std::path::{Path, PathBuf};

use attestfs_attestation::{TrustedKeys, VerifyingKey};

use super::{
    exit::Exit,
    failure::Failure,
    output::{Output, shown},
    progress::Progress,
    verdict::Admitted,
};
use crate::{
    artifact::{Artifact, AtHand, judge},
    config::{Environment, StateDir},
    signer::{KeyFileError, public_key_from_path},
};

/// Check that a file or directory is what a trusted signer attested
///
/// Offline, with no mount and no daemon. Attestations are looked for beside the artifact (model.sig,
/// claims.jsonl, also in the directories above), and in the state directory; with --bundle, that
/// file alone decides.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs verify model --key keys/attestfs.pub
  attestfs verify model/model.safetensors --key keys/attestfs.pub --json
  attestfs verify data.csv --key team.pub --bundle data.sigstore.json")]
pub(super) struct Verify {
    /// The file or directory
    #[arg(value_name = "PATH")]
    path: PathBuf,

    #[command(flatten)]
    trust: Trust,

    #[command(flatten)]
    place: Place,
}

/// Whom to believe.
#[derive(Debug, clap::Args)]
pub(super) struct Trust {
    /// The public key of a signer to believe; may be repeated
    #[arg(long = "key", value_name = "PUB")]
    keys: Vec<PathBuf>,

    /// Not available yet: the identity in a signer's certificate
    #[arg(long, value_name = "I", hide = true)]
    identity: Option<String>,

    /// Not available yet: who vouches for that identity
    #[arg(long, value_name = "U", hide = true)]
    issuer: Option<String>,

    /// Not available yet: the roots of signers' certificates
    #[arg(long, value_name = "F", hide = true)]
    cert_chain: Option<PathBuf>,

    /// Not available yet: a policy
    #[arg(long, value_name = "F", hide = true)]
    policy: Option<PathBuf>,
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
        let keys = self.trust.keys()?.ok_or_else(no_key)?;
        let artifact = Artifact::at(&self.path)?;
        let at_hand = self.place.at_hand(&artifact, environment)?;
        let judged = judge(&artifact, &at_hand, &keys, &Progress::new())?;
        output.show(&Admitted::new(shown(&self.path), judged))?;
        Ok(Exit::Yes)
    }
}

impl Trust {
    /// The trusted keys; none when no key was named.
    pub(super) fn keys(&self) -> Result<Option<TrustedKeys>, Failure> {
        let later = [
            ("--identity", self.identity.is_some()),
            ("--issuer", self.issuer.is_some()),
            ("--cert-chain", self.cert_chain.is_some()),
            ("--policy", self.policy.is_some()),
        ];
        if let Some((option, _)) = later.iter().find(|(_, is_given)| *is_given) {
            let message = format!("{option} is not available yet in this version of attestfs");
            return Err(Failure::usage(message)
                .with_next_step("verify with the public key of the signer: --key PUB"));
        }
        if self.keys.is_empty() {
            return Ok(None);
        }
        let keys: Vec<_> = self.keys.iter().map(|key| public_key(key)).collect::<Result<_, _>>()?;
        Ok(Some(TrustedKeys::new(keys)))
    }
}

impl Place {
    /// A state directory that nobody named and that is not there has no attestations.
    pub(super) fn at_hand(
        &self,
        artifact: &Artifact,
        environment: &Environment,
    ) -> Result<AtHand, Failure> {
        let state = StateDir::resolve(self.state.as_deref(), environment).ok();
        if let Some(named) = self.state.as_deref().filter(|named| !named.is_dir()) {
            return Err(no_state(named));
        }
        let at_hand = AtHand::around(artifact, state.as_ref())?;
        match &self.bundle {
            Some(bundle) => at_hand.and_bundle(bundle).map_err(Failure::from),
            None => Ok(at_hand),
        }
    }
}

fn public_key(path: &Path) -> Result<VerifyingKey, Failure> {
    public_key_from_path(path).map_err(|error| match error {
        KeyFileError::Io { .. } => Failure::environment(error)
            .with_next_step("name the public key of the signer, attestfs.pub"),
        other => other.into(),
    })
}

fn no_key() -> Failure {
    Failure::usage("nobody to believe: verification needs the public key of a signer")
        .with_next_step("give --key PUB; 'attestfs explain PATH' tells who claims to have signed")
}

fn no_state(path: &Path) -> Failure {
    Failure::environment(format_args!("the state directory {}: not there", path.display()))
        .with_next_step("leave --state out to verify by what lies beside the artifact")
}
