"""Over which axis tokens are pooled: text, a vision transformer and a Swin on scikit-learn's digits."""
