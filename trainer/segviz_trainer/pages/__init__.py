"""What every report's page is made of: style sheet, charts, numbers as people read them."""
