"""One model behind the interface of OpenAI, on this computer."""
