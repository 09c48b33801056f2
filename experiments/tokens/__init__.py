"""What a monitor should keep of tokens: of made-up texts, and of scikit-learn's digits."""
