use std::io;

/// How a bearing is: what the classifier is to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    Healthy,
    Unbalanced,
    Worn,
}

impl Condition {
    pub(crate) const ALL: [Self; 3] = [Self::Healthy, Self::Unbalanced, Self::Worn];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Unbalanced => "unbalanced",
            Self::Worn => "worn",
        }
    }

    /// Which output of the network stands for it.
    pub(crate) fn index(self) -> usize {
        self as usize
    }

    pub(crate) fn named(name: &str) -> io::Result<Self> {
        let found = Self::ALL.into_iter().find(|condition| condition.name() == name);
        found.ok_or_else(|| io::Error::other(format!("no condition is called {name:?}")))
    }
}
