use std::{fmt, path::PathBuf};

use attestfs_attestation::escaped;
use serde::Serialize;

use super::{
    exit::Exit,
    failure::Failure,
    gated::Gated,
    guarded::ByPolicy,
    output::Output,
    progress::Progress,
    story::{Story, counted, ended, short, write_lock},
    verdict,
    verify::{Place, Trust},
};
use crate::{
    artifact::{About, Artifact, Claimed, ClaimedKind, Claims, Judged, NotJudged, claimed, judge},
    clock::{Clock as _, SystemClock},
    config::Environment,
    text::harmless,
};

/// Tell what is known of a file or directory: who, when, from what, with what, where
///
/// With a key or a policy: the verdict of 'verify' and its reason. On a mount with a policy: the verdict
/// of its gate. Without: who claims to have made and signed it, which nobody has checked, and whether it
/// still is what they claim.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  attestfs explain model/model.safetensors --key keys/attestfs.pub
  attestfs explain model/model.safetensors --policy serving.toml --tree model
  attestfs explain /mnt/models/model.safetensors

Exit code: 0 admitted, or without a key: claimed by somebody; 1 refused, or without a key: changed \
since, claimed by nobody, or by failed runs only.")]
pub(super) struct Explain {
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

/// The answer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    artifact: String,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Failure>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<attestfs_attestation::Verified>,
    /// What the gate of the mount says through which it is seen, when it opens.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<String>,
    /// What is claimed, whoever checked it.
    #[serde(flatten)]
    claims: Claims,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    /// All checks passed.
    Admitted,
    /// One failed.
    Refused,
    /// Somebody says something, and nobody checked it.
    Claimed,
    /// It is not even what somebody says, whoever that is.
    Changed,
    /// All that say something are runs that failed, or whose end nobody saw.
    Failed,
    /// Nobody says anything.
    Unattested,
}

impl Explain {
    pub(super) fn carry_out(
        self,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let signers = self.trust.signers()?;
        let artifact = Artifact::at(&self.path)?;
        if self.by_policy.is_given() {
            return match self.by_policy.verdict(&artifact, &self.place, environment) {
                Ok(opens) => output.show(&opens).map(|()| Exit::Yes),
                Err(refusal) if refusal.check.is_some() => {
                    self.refused(&artifact, refusal, output, environment)
                }
                Err(failure) => Err(failure),
            };
        }
        let gated = Gated::of(&self.path).filter(|_| signers.is_none());
        if let Some(Gated::Refused(refusal)) = gated {
            return self.refused(&artifact, refusal, output, environment);
        }
        let at_hand = self.place.at_hand(&artifact, environment)?;
        let claims = claimed(&artifact, &at_hand, &Progress::new())?;
        let now = SystemClock.now();
        let judged =
            signers.map(|signers| judge(&artifact, &at_hand, &signers, now, &Progress::new()));
        let explanation = Explanation::new(&self.path, claims, judged)?.with_gate(gated);
        output.show(&explanation)?;
        Ok(explanation.verdict.exit())
    }

    /// What is claimed of it all the same is told as far as it can be read: a gate keeps it shut.
    fn refused(
        &self,
        artifact: &Artifact,
        refusal: Failure,
        output: Output,
        environment: &Environment,
    ) -> Result<Exit, Failure> {
        let at_hand = self.place.at_hand(artifact, environment)?;
        let claims = claimed(artifact, &at_hand, &Progress::new());
        let nothing = |_unreadable| Claims { content: None, difference: None, claims: Vec::new() };
        let explanation = Explanation {
            artifact: escaped(self.path.as_os_str().as_encoded_bytes()),
            verdict: Verdict::Refused,
            reason: Some(refusal),
            verified: None,
            gate: None,
            claims: claims.unwrap_or_else(nothing),
        };
        output.show(&explanation)?;
        Ok(Exit::Refused)
    }
}

impl Explanation {
    fn new(
        path: &std::path::Path,
        claims: Claims,
        judged: Option<Result<Judged, NotJudged>>,
    ) -> Result<Self, Failure> {
        let (verdict, reason, verified) = match judged {
            None if claims.difference.is_some() => {
                (Verdict::Changed, claims.difference.as_ref().map(verdict::refused), None)
            }
            None if claims.claims.is_empty() => (Verdict::Unattested, None, None),
            None if claims.claims.iter().all(Claimed::is_of_failure) => {
                (Verdict::Failed, None, None)
            }
            None => (Verdict::Claimed, None, None),
            Some(Ok(judged)) => (Verdict::Admitted, None, Some(judged.verified)),
            Some(Err(error)) => match verdict::failure(&error) {
                refusal if refusal.check.is_some() => (Verdict::Refused, Some(refusal), None),
                failure => return Err(failure),
            },
        };
        let artifact = escaped(path.as_os_str().as_encoded_bytes());
        Ok(Self { artifact, verdict, reason, verified, gate: None, claims })
    }

    fn with_gate(self, gated: Option<Gated>) -> Self {
        match gated {
            Some(Gated::Admitted(gate)) => {
                Self { verdict: Verdict::Admitted, gate: Some(gate), ..self }
            }
            Some(Gated::Unguarded) => {
                Self { gate: Some("not guarded: no rule has it".to_owned()), ..self }
            }
            Some(Gated::Refused(_)) | None => self,
        }
    }

    fn next_step(&self) -> &str {
        match (&self.reason, self.verdict) {
            (Some(failure), _) => failure.next_step.as_deref().unwrap_or_default(),
            (None, Verdict::Claimed) => {
                "get the public key of the signer, or the certificate of its authority, by a way you trust, and give it with --key or --cert-chain"
            }
            (None, Verdict::Failed) => "make it anew, with a run that succeeds",
            (None, Verdict::Unattested) if self.gate.is_some() => "",
            (None, Verdict::Unattested) => {
                "make it under 'attestfs run', or name its attestation with --bundle or --state"
            }
            (None, _) => "",
        }
    }
}

impl Verdict {
    fn exit(self) -> Exit {
        match self {
            Self::Admitted | Self::Claimed => Exit::Yes,
            Self::Refused | Self::Changed | Self::Failed | Self::Unattested => Exit::Refused,
        }
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Admitted => "is what was attested",
            Self::Refused => "is refused",
            Self::Claimed => "is attested, and nobody has checked it: no key was given",
            Self::Changed => "is not what is claimed of it",
            Self::Failed => "comes from a run that did not end well: nobody vouches for it",
            Self::Unattested => "is attested by nobody here",
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_admitted = self.gate.is_some() && self.verdict == Verdict::Admitted;
        let sentence = if is_admitted { "opens" } else { self.verdict.sentence() };
        writeln!(f, "{} {sentence}", harmless(&self.artifact))?;
        if let Some(reason) = &self.reason {
            writeln!(f, "  reason     {}", harmless(&reason.message))?;
        }
        if let Some(gate) = &self.gate {
            writeln!(f, "  gate       {}", harmless(gate))?;
        }
        if !self.next_step().is_empty() {
            writeln!(f, "  next       {}", harmless(self.next_step()))?;
        }
        for file in self.reason.iter().flat_map(Failure::files) {
            writeln!(f, "  refused    {file}")?;
        }
        if let Some(content) = &self.claims.content {
            writeln!(f, "  size       {}", counted(content.size, "byte"))?;
            writeln!(f, "  sha256     {}", content.sha256())?;
            if let Some(blake3) = content.blake3() {
                writeln!(f, "  blake3     {blake3}")?;
            }
        }
        if let Some(verified) = &self.verified {
            return write!(f, "{}", Story(verified));
        }
        self.claims.claims.iter().try_for_each(|claim| write_claim(f, claim, is_admitted))
    }
}

/// A gate that admits has checked what its rule asks for, and does not say which claims that are.
fn write_claim(f: &mut fmt::Formatter<'_>, claimed: &Claimed, is_admitted: bool) -> fmt::Result {
    let heading = match claimed.about {
        About::Artifact if is_admitted => "claimed; the gate checked what its rule asks for",
        About::Artifact => "claimed, not checked",
        About::Behind => "behind it: claimed, not checked",
        About::SameContent => "same content, elsewhere: claimed, not checked",
    };
    writeln!(f, "\n{heading} (sha256:{})", short(&claimed.attestation))?;
    writeln!(f, "  signer     {}", harmless(&claimed.signer))?;
    match &claimed.claim {
        ClaimedKind::ModelSignature { name, files } => {
            let files = counted(*files as u64, "file");
            writeln!(f, "  model      '{}', {files}", harmless(name))
        }
        ClaimedKind::Run { subject, root, stage, run, host, lock, started, outcome, .. } => {
            if let Some(subject) = subject {
                writeln!(f, "  as         {}", harmless(subject))?;
            }
            writeln!(f, "  in         {}", harmless(root))?;
            writeln!(f, "  stage      {}, {}", harmless(stage), ended(*outcome))?;
            writeln!(f, "  run        {} on {}", harmless(run), harmless(host))?;
            write_lock(f, lock.as_ref())?;
            writeln!(f, "  started    {}", started.strftime("%Y-%m-%d %H:%M:%SZ"))
        }
    }
}
