//! SHA-256 in the lanes of a vector, for a vector of any width: written once, expanded beside the
//! operations of each.

/// FIPS 180-4, 4.2.2.
pub(super) const CONSTANTS: [u32; 64] = [
    0x428a_2f98,
    0x7137_4491,
    0xb5c0_fbcf,
    0xe9b5_dba5,
    0x3956_c25b,
    0x59f1_11f1,
    0x923f_82a4,
    0xab1c_5ed5,
    0xd807_aa98,
    0x1283_5b01,
    0x2431_85be,
    0x550c_7dc3,
    0x72be_5d74,
    0x80de_b1fe,
    0x9bdc_06a7,
    0xc19b_f174,
    0xe49b_69c1,
    0xefbe_4786,
    0x0fc1_9dc6,
    0x240c_a1cc,
    0x2de9_2c6f,
    0x4a74_84aa,
    0x5cb0_a9dc,
    0x76f9_88da,
    0x983e_5152,
    0xa831_c66d,
    0xb003_27c8,
    0xbf59_7fc7,
    0xc6e0_0bf3,
    0xd5a7_9147,
    0x06ca_6351,
    0x1429_2967,
    0x27b7_0a85,
    0x2e1b_2138,
    0x4d2c_6dfc,
    0x5338_0d13,
    0x650a_7354,
    0x766a_0abb,
    0x81c2_c92e,
    0x9272_2c85,
    0xa2bf_e8a1,
    0xa81a_664b,
    0xc24b_8b70,
    0xc76c_51a3,
    0xd192_e819,
    0xd699_0624,
    0xf40e_3585,
    0x106a_a070,
    0x19a4_c116,
    0x1e37_6c08,
    0x2748_774c,
    0x34b0_bcb5,
    0x391c_0cb3,
    0x4ed8_aa4a,
    0x5b9c_ca4f,
    0x682e_6ff3,
    0x748f_82ee,
    0x78a5_636f,
    0x84c8_7814,
    0x8cc7_0208,
    0x90be_fffa,
    0xa450_6ceb,
    0xbef9_a3f7,
    0xc671_78f2,
];

/// Makes `compress` for the vector whose `Vector`, `LANES`, `splat`, `gather`, `scatter`, `message`,
/// `add`, `rotate`, `shift`, `xor`, `choice` and `majority` are in scope.
macro_rules! kernel {
    ($features:literal) => {
        /// Compresses the blocks of each lane into its words. All lanes have as many blocks as the first.
        #[target_feature(enable = $features)]
        pub(super) fn compress(words: &mut [Words; LANES], blocks: &[&[Block]; LANES]) {
            let mut state: [Vector; 8] = array::from_fn(|word| gather(words, word));
            for index in 0..blocks[0].len() {
                let before = state;
                rounds(&mut state, message(&array::from_fn(|lane| &blocks[lane][index])));
                state = array::from_fn(|word| add(state[word], before[word]));
            }
            for (word, values) in state.into_iter().enumerate() {
                scatter(values, words, word);
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn rounds(state: &mut [Vector; 8], mut message: [Vector; 16]) {
            for (sixteen, constants) in CONSTANTS.as_chunks::<16>().0.iter().enumerate() {
                if sixteen > 0 {
                    extend(&mut message);
                }
                sixteen_rounds(state, &message, constants);
            }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn sixteen_rounds(state: &mut [Vector; 8], message: &[Vector; 16], constants: &[u32; 16]) {
            sixteen_times!(INDEX => {
                let [a, b, c, d, e, f, g, h] = *state;
                let input = add(message[INDEX], splat(constants[INDEX]));
                let mixed_e = xor(rotate::<6>(e), rotate::<11>(e), rotate::<25>(e));
                let mixed_a = xor(rotate::<2>(a), rotate::<13>(a), rotate::<22>(a));
                let input = add(h, input);
                let choice = choice(e, f, g);
                let first = add(mixed_e, add(choice, input));
                let fifth = add(mixed_e, add(choice, add(d, input)));
                let second = add(mixed_a, add(majority(a, b, c), first));
                *state = [second, a, b, c, fifth, e, f, g];
            });
        }

        /// The next sixteen words of the message schedule.
        #[inline]
        #[target_feature(enable = $features)]
        fn extend(words: &mut [Vector; 16]) {
            sixteen_times!(INDEX => {
                let near = words[(INDEX + 1) % 16];
                let far = words[(INDEX + 14) % 16];
                let near = xor(rotate::<7>(near), rotate::<18>(near), shift::<3>(near));
                let far = xor(rotate::<17>(far), rotate::<19>(far), shift::<10>(far));
                let sum = add(words[INDEX], words[(INDEX + 9) % 16]);
                words[INDEX] = add(sum, add(near, far));
            });
        }
    };
}

/// Unrolls for good what the compiler would leave a loop: only then does every word have a register.
macro_rules! sixteen_times {
    ($index:ident => $work:expr) => {
        sixteen_times!($index => $work; 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)
    };
    ($index:ident => $work:expr; $($value:literal)*) => {
        $({
            const $index: usize = $value;
            $work
        })*
    };
}

pub(super) use {kernel, sixteen_times};
