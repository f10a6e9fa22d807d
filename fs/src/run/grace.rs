//! How long those who are in the way are let to leave.

use std::time::Duration;

use crate::lately::Moment;

/// How long whoever finds others in the way waits for them. The kernel tells us of a close after it has let
/// the one who closes go on, so whoever seems to have a file open may have closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grace {
    /// Nobody is waited for.
    Denied,
    /// It begins when somebody is found to be in the way.
    Ahead,
    /// It began then.
    Since(Moment),
}

impl Grace {
    /// It begins now, unless it did before.
    pub(crate) fn begun(self) -> Self {
        match self {
            Self::Ahead => Self::Since(Moment::now()),
            other => other,
        }
    }

    /// Whether those who are in the way by now count as those who stay.
    pub(crate) fn is_over(self) -> bool {
        self.remaining().is_zero()
    }

    pub(crate) fn remaining(self) -> Duration {
        match self {
            Self::Denied => Duration::ZERO,
            Self::Ahead => GRACE,
            Self::Since(begin) => GRACE.saturating_sub(begin.elapsed()),
        }
    }
}

/// A close is told within milliseconds; the rest is for whoever gets no processor in between.
const GRACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_once_and_is_over_after_its_time() {
        assert!(Grace::Denied.is_over() && Grace::Denied.begun().is_over());
        let begun = Grace::Ahead.begun();
        assert!(!Grace::Ahead.is_over() && !begun.is_over());
        assert_eq!(begun.begun(), begun);
        let long_ago = Grace::Since(Moment::long_ago());
        assert!(long_ago.is_over() && long_ago.begun().is_over());
    }
}
