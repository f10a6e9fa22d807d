//! A network with one hidden layer, and how it learns.

use std::{io, path::Path};

use crate::{
    condition::Condition,
    random::Random,
    safetensors::{self, Tensor, Tensors},
    table::{FEATURES, Features, Row},
};

const INPUTS: usize = FEATURES.len();
const NEURONS: usize = 12;
const OUTPUTS: usize = Condition::ALL.len();

/// Says how a bearing is from what is kept of a recording.
pub(crate) struct Network {
    /// What to subtract from each feature, and what to multiply it by then, so that all weigh the same.
    mean: Vec<f32>,
    scale: Vec<f32>,
    hidden: Layer,
    output: Layer,
}

struct Layer {
    /// A row for each output.
    weights: Vec<f32>,
    biases: Vec<f32>,
}

impl Network {
    /// One that knows how its features are spread, and nothing else.
    pub(crate) fn untrained(rows: &[Row], random: &mut Random) -> Self {
        let (mean, scale) = spread(rows);
        let hidden = Layer::random(INPUTS, NEURONS, random);
        let output = Layer::random(NEURONS, OUTPUTS, random);
        Self { mean, scale, hidden, output }
    }

    pub(crate) fn condition(&self, features: &Features) -> Condition {
        let outputs = self.output.forward(&self.activations(&self.normal(features)));
        let best = |one: &Condition, other: &Condition| {
            outputs[one.index()].total_cmp(&outputs[other.index()])
        };
        Condition::ALL.into_iter().max_by(best).expect("there are conditions")
    }

    /// One step of stochastic gradient descent. Gives the loss before it: how surprised the network
    /// was, in nats.
    pub(crate) fn learn(&mut self, row: &Row, rate: f32) -> f32 {
        let input = self.normal(&row.features);
        let activations = self.activations(&input);
        let mut gradient = softmax(self.output.forward(&activations));
        let loss = -gradient[row.condition.index()].max(f32::MIN_POSITIVE).ln();
        gradient[row.condition.index()] -= 1.0;
        let mut gradient = self.output.step(&activations, &gradient, rate);
        for (slope, activation) in gradient.iter_mut().zip(&activations) {
            *slope *= 1.0 - activation * activation;
        }
        self.hidden.step(&input, &gradient, rate);
        loss
    }

    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let tensor = |shape: &[usize], values: &[f32]| Tensor {
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        let tensors = [
            ("features.mean", tensor(&[INPUTS], &self.mean)),
            ("features.scale", tensor(&[INPUTS], &self.scale)),
            ("hidden.bias", tensor(&[NEURONS], &self.hidden.biases)),
            ("hidden.weight", tensor(&[NEURONS, INPUTS], &self.hidden.weights)),
            ("output.bias", tensor(&[OUTPUTS], &self.output.biases)),
            ("output.weight", tensor(&[OUTPUTS, NEURONS], &self.output.weights)),
        ];
        safetensors::write(path, &tensors.map(|(name, tensor)| (name.to_owned(), tensor)).into())
    }

    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let mut tensors = safetensors::read(path)?;
        Ok(Self {
            mean: values(&mut tensors, "features.mean", &[INPUTS])?,
            scale: values(&mut tensors, "features.scale", &[INPUTS])?,
            hidden: Layer {
                weights: values(&mut tensors, "hidden.weight", &[NEURONS, INPUTS])?,
                biases: values(&mut tensors, "hidden.bias", &[NEURONS])?,
            },
            output: Layer {
                weights: values(&mut tensors, "output.weight", &[OUTPUTS, NEURONS])?,
                biases: values(&mut tensors, "output.bias", &[OUTPUTS])?,
            },
        })
    }

    fn normal(&self, features: &Features) -> Vec<f32> {
        let known = self.mean.iter().zip(&self.scale);
        features.iter().zip(known).map(|(value, (mean, scale))| (value - mean) * scale).collect()
    }

    fn activations(&self, input: &[f32]) -> Vec<f32> {
        self.hidden.forward(input).into_iter().map(f32::tanh).collect()
    }
}

impl Layer {
    fn random(inputs: usize, outputs: usize, random: &mut Random) -> Self {
        let weights = (0..inputs * outputs).map(|_| 0.4 * random.normal()).collect();
        Self { weights, biases: vec![0.0; outputs] }
    }

    fn forward(&self, input: &[f32]) -> Vec<f32> {
        let rows = self.weights.chunks_exact(input.len());
        let products = rows.map(|row| row.iter().zip(input).map(|(a, b)| a * b).sum::<f32>());
        products.zip(&self.biases).map(|(product, bias)| product + bias).collect()
    }

    /// Goes down the gradient of the loss by the outputs. Gives that by the inputs.
    fn step(&mut self, input: &[f32], gradient: &[f32], rate: f32) -> Vec<f32> {
        let mut by_input = vec![0.0; input.len()];
        let rows = self.weights.chunks_exact_mut(input.len()).zip(&mut self.biases);
        for ((row, bias), slope) in rows.zip(gradient) {
            for ((weight, value), back) in row.iter_mut().zip(input).zip(&mut by_input) {
                *back += *weight * slope;
                *weight -= rate * slope * value;
            }
            *bias -= rate * slope;
        }
        by_input
    }
}

/// The mean of each feature, and one over its deviation.
fn spread(rows: &[Row]) -> (Vec<f32>, Vec<f32>) {
    let spread = |feature: usize| {
        let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
        for row in rows {
            let value = row.features[feature];
            count += 1.0;
            sum += value;
            squares += value * value;
        }
        let mean: f32 = sum / count;
        let variance: f32 = squares / count - mean * mean;
        (mean, 1.0 / variance.max(f32::EPSILON).sqrt())
    };
    (0..INPUTS).map(spread).unzip()
}

fn softmax(outputs: Vec<f32>) -> Vec<f32> {
    let highest = outputs.iter().copied().fold(f32::MIN, f32::max);
    let powers: Vec<f32> = outputs.iter().map(|output| (output - highest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

fn values(tensors: &mut Tensors, name: &str, shape: &[usize]) -> io::Result<Vec<f32>> {
    match tensors.remove(name) {
        Some(tensor) if tensor.shape == shape => Ok(tensor.values),
        _ => Err(io::Error::other(format!("no tensor {name} of shape {shape:?}"))),
    }
}
