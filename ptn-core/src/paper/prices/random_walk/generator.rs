//! Random numbers that are the same on every machine.
//!
//! xoshiro256++ (Blackman and Vigna), seeded by SplitMix64 (Steele, Lea and Flood). What is made of its bits uses
//! additions, multiplications, divisions and square roots of doubles only: IEEE 754 defines their last
//! bit, whereas logarithms and sines differ between mathematical libraries.

/// The state of the generator.
#[derive(Debug, Clone)]
pub(super) struct Generator([u64; 4]);

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a: spreads a name over 64 bits.
fn hash(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

impl Generator {
    /// The stream of a name under a seed.
    pub(super) fn new(seed: u64, name: &str) -> Self {
        let mut state = seed ^ hash(name);
        Self(std::array::from_fn(|_| split_mix(&mut state)))
    }

    fn bits(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// From 0 to below 1, evenly.
    pub(super) fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    /// Mean 0 and variance 1, nearly normal: the sum of twelve uniform numbers. Never beyond 6.
    pub(super) fn normal(&mut self) -> f64 {
        let mut sum = -6.0;
        for _ in 0..12 {
            sum += self.uniform();
        }
        sum
    }
}

/// The exponential function, to a few units in the 14th digit; arguments beyond 50 count as 50.
pub(super) fn exp(x: f64) -> f64 {
    // exp(x) is exp(x / 256) to the power of 256; the small one is a short Taylor series.
    let x = x.clamp(-50.0, 50.0) / 256.0;
    let mut sum = 1.0;
    for n in (1_u8..=12).rev() {
        sum = 1.0 + x / f64::from(n) * sum;
    }
    for _ in 0..8 {
        sum *= sum;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generators_give_their_published_numbers() {
        let mut state = 1_234_567;
        let got: [u64; 5] = std::array::from_fn(|_| split_mix(&mut state));
        let want = [
            6_457_827_717_110_365_317,
            3_203_168_211_198_807_973,
            9_817_491_932_198_370_423,
            4_593_380_528_125_082_431,
            16_408_922_859_458_223_821,
        ];
        assert_eq!(got, want);
        let mut generator = Generator([1, 2, 3, 4]);
        let got: [u64; 10] = std::array::from_fn(|_| generator.bits());
        let want = [
            41_943_041,
            58_720_359,
            3_588_806_011_781_223,
            3_591_011_842_654_386,
            9_228_616_714_210_784_205,
            9_973_669_472_204_895_162,
            14_011_001_112_246_962_877,
            12_406_186_145_184_390_807,
            15_849_039_046_786_891_736,
            10_450_023_813_501_588_000,
        ];
        assert_eq!(got, want);
        assert_eq!(hash("a"), 0xaf63_dc4c_8601_ec8c);
    }

    #[test]
    fn exp_is_the_exponential_function() {
        for x in [-50.0, -3.0, -0.1, -1e-9, 0.0, 1e-9, 0.01, 0.7, 1.0, 5.0, 50.0_f64] {
            let (got, want) = (exp(x), x.exp());
            assert!((got / want - 1.0).abs() < 1e-13, "{x}: {got}, not {want}");
        }
        assert!(exp(f64::INFINITY).is_finite() && exp(-1e300) > 0.0);
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let mut generator = Generator::new(7, "x");
        let n = 200_000;
        let (mut sum, mut square, mut even) = (0.0, 0.0, 0.0);
        for _ in 0..n {
            let z = generator.normal();
            sum += z;
            square += z * z;
            even += generator.uniform();
        }
        let n = f64::from(n);
        assert!((sum / n).abs() < 0.01, "{}", sum / n);
        assert!((square / n - 1.0).abs() < 0.01, "{}", square / n);
        assert!((even / n - 0.5).abs() < 0.005, "{}", even / n);
    }
}
